/** Shortens an input that fails a check, so that it is readable. */

/** Time limit of the shrinking, in ms. */
const MAX_MS = 30_000;

/**
 * Deletes parts while the rest still fails: first halves, finally single characters. Returns the shortest
 * text found.
 */
export async function shrink(
  text: string,
  fails: (text: string) => boolean | Promise<boolean>,
): Promise<string> {
  let shortest = text;
  const deadline = performance.now() + MAX_MS;
  const isLate = (): boolean => performance.now() > deadline;
  let length = Math.ceil(text.length / 2);
  while (length > 0 && !isLate()) {
    let hasShrunk = false;
    for (let at = 0; at < shortest.length && !isLate();) {
      const shorter = shortest.slice(0, at) + shortest.slice(at + length);
      if (await fails(shorter)) {
        shortest = shorter;
        hasShrunk = true;
      } else at += length;
    }
    if (length === 1 && hasShrunk) continue;
    length = length === 1 ? 0 : Math.ceil(length / 2);
  }
  return shortest;
}
