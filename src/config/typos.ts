/** Finds variables that look like misspelt settings, which would otherwise be ignored silently. */
import { SETTING_NAMES } from './settings.ts';

/** Prefixes that no app uses: a variable with one of them is meant for the sidecar. */
const OUR_PREFIXES = ['SESSION_STORE_', 'SESSION_ID_', 'FLEET_', 'REPLAY_'];
const MAX_TYPING_ERRORS = 2;
/** Shorter names are similar to too many others: HOST and POST, PORT and SORT. */
const MIN_COMPARED_CHARACTERS = 5;

/** One warning per variable. Never shows a value: it may be a secret. */
export function findTypos(names: readonly string[]): string[] {
  const known: ReadonlySet<string> = new Set(SETTING_NAMES);
  return names.flatMap((name) => {
    if (known.has(name) || name.startsWith('FLY_')) return [];
    const nearest = nearestSetting(name);
    return nearest === undefined ? [] : [`${name} is not a setting; did you mean ${nearest}?`];
  });
}

/** Undefined if none is near enough. */
function nearestSetting(name: string): string | undefined {
  const isOurs = OUR_PREFIXES.some((prefix) => name.startsWith(prefix));
  if (!isOurs && name.length < MIN_COMPARED_CHARACTERS) return undefined;
  let nearest: string | undefined;
  let errors = isOurs ? Infinity : MAX_TYPING_ERRORS + 1;
  for (const candidate of SETTING_NAMES) {
    // Each character more or less is one. Most of an environment is not compared at all.
    if (Math.abs(candidate.length - name.length) >= errors) continue;
    const candidateErrors = typingErrors(name, candidate);
    if (candidateErrors < errors) [nearest, errors] = [candidate, candidateErrors];
  }
  return nearest;
}

/** Characters to insert, delete or change (Levenshtein). */
function typingErrors(left: string, right: string): number {
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let i = 0; i < left.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < right.length; j++) {
      const changed = (row[j] ?? 0) + (left[i] === right[j] ? 0 : 1);
      next.push(Math.min(changed, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row[right.length] ?? 0;
}
