/** Reads values of known types out of parsed TOML, and keeps what is of another type. */

export class TomlTable {
  readonly #values: Readonly<Record<string, unknown>>;
  /** As in `http_service.concurrency`; empty at the top. */
  readonly #path: string;
  readonly #misfits: string[];

  /** Of every value that is not what is expected, a sentence is added to `misfits`. */
  constructor(values: Readonly<Record<string, unknown>>, misfits: string[], path = '') {
    this.#values = values;
    this.#misfits = misfits;
    this.#path = path;
  }

  names(): string[] {
    return Object.keys(this.#values);
  }

  has(name: string): boolean {
    return this.#values[name] !== undefined;
  }

  text(name: string): string | undefined {
    return this.#read(name, 'a text', (value) => (typeof value === 'string' ? value : undefined));
  }

  number(name: string): number | undefined {
    return this.#read(name, 'a number', (value) => (typeof value === 'number' ? value : undefined));
  }

  boolean(name: string): boolean | undefined {
    return this.#read(name, 'true or false', (value) =>
      typeof value === 'boolean' ? value : undefined,
    );
  }

  textOrNumber(name: string): string | number | undefined {
    return this.#read(name, 'a text or a number', (value) =>
      typeof value === 'string' || typeof value === 'number' ? value : undefined,
    );
  }

  textOrBoolean(name: string): string | boolean | undefined {
    return this.#read(name, 'a text, true or false', (value) =>
      typeof value === 'string' || typeof value === 'boolean' ? value : undefined,
    );
  }

  /** Empty if there is none. */
  texts(name: string): readonly string[] {
    const isText = (value: unknown): value is string => typeof value === 'string';
    return (
      this.#read(name, 'a list of texts', (value) =>
        Array.isArray(value) && value.every(isText) ? value : undefined,
      ) ?? []
    );
  }

  /** An empty one if there is none. */
  table(name: string): TomlTable {
    const values = this.#read(name, 'a table', (value) => (isTable(value) ? value : undefined));
    return new TomlTable(values ?? {}, this.#misfits, this.#pathOf(name));
  }

  /** `[[name]]`, or a single `[name]`. */
  tables(name: string): readonly TomlTable[] {
    const tables = this.#read(name, 'a table, or a list of tables', (value) => {
      if (isTable(value)) return [value];
      return Array.isArray(value) && value.every(isTable) ? value : undefined;
    });
    return (tables ?? []).map((values) => new TomlTable(values, this.#misfits, this.#pathOf(name)));
  }

  #read<Value>(
    name: string,
    expected: string,
    accept: (value: unknown) => Value | undefined,
  ): Value | undefined {
    const value = this.#values[name];
    if (value === undefined) return undefined;
    const accepted = accept(value);
    // The value itself may be a secret in the wrong place.
    if (accepted === undefined) this.#misfits.push(`${this.#pathOf(name)} must be ${expected}`);
    return accepted;
  }

  #pathOf(name: string): string {
    return this.#path === '' ? name : `${this.#path}.${name}`;
  }
}

function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
