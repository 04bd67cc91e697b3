/** The properties of an object, of its prototype's too, that `expected` names. */
export function partOf(object: object | undefined, expected: object): object {
  return Object.fromEntries(
    Object.keys(expected).map((name) => [name, object && Reflect.get(object, name)]),
  );
}
