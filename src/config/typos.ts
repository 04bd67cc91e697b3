/** Finds variables that look like misspelt settings, which would otherwise be ignored silently. */
import { PREFIX, VARIABLE_NAMES } from './environment.ts';
import { SETTING_NAMES } from './settings.ts';

/** No app uses these: a variable with one of them is meant for the sidecar. */
const OUR_PREFIXES = ['SESSION_STORE_', 'SESSION_ID_', 'FLEET_', 'REPLAY_'];
const MAX_TYPING_ERRORS = 2;
/** Shorter names are similar to too many others: HOST and POST, PORT and SORT. */
const MIN_COMPARED_CHARACTERS = 5;
/** As SESION_STORE_URL and DRAIN_TIMEOUT_SECONDS are to settings; SESSION_STORE, of a framework, is not. */
const MIN_SIMILARITY = 0.85;
/** No two names are so similar. */
const TYPING_ERRORS_ONLY = Infinity;
/** Less would be a guess. */
const MIN_SUGGESTED_SIMILARITY = 0.35;

/** Read by the image's `start`, before there is a sidecar. */
const OF_THE_IMAGE = `${PREFIX}RUN_AS`;

/** One warning per variable. Never shows a value: it may be a secret. */
export function findTypos(names: readonly string[]): string[] {
  const known: ReadonlySet<string> = new Set([...VARIABLE_NAMES, OF_THE_IMAGE]);
  return names.filter((name) => !known.has(name)).flatMap(warnAbout);
}

function warnAbout(name: string): string[] {
  const end = endOfPrefix(name);
  if (end > 0) {
    const nearest = nearestSetting(name.slice(end), MIN_SUGGESTED_SIMILARITY);
    const hint = nearest === undefined ? '' : `; did you mean ${PREFIX}${nearest}?`;
    return [`${name} is not a setting${hint}`];
  }
  if (name.startsWith('FLY_')) return [];
  // Other programs read many more of these: only a typing error is sure.
  if (name.startsWith('OTEL_'))
    return suggestionFor(name, nearestSetting(name, TYPING_ERRORS_ONLY));
  const isOurs = OUR_PREFIXES.some((prefix) => name.startsWith(prefix));
  if (!isOurs && name.length < MIN_COMPARED_CHARACTERS) return [];
  return suggestionFor(name, nearestSetting(name, isOurs ? 0 : MIN_SIMILARITY));
}

function suggestionFor(name: string, nearest: string | undefined): string[] {
  return nearest === undefined ? [] : [`${name} is not a setting; did you mean ${nearest}?`];
}

/** Where the rest begins of a name with the prefix, misspelt or not; 0: it has none. */
function endOfPrefix(name: string): number {
  const end = /^FLY_?[A-Z]{6,10}_(?=.)/.exec(name)?.[0].length ?? 0;
  return typingErrors(name.slice(0, end), PREFIX) <= MAX_TYPING_ERRORS ? end : 0;
}

/** Undefined if none is so similar and none is a few typing errors away. */
function nearestSetting(name: string, minSimilarity: number): string | undefined {
  const words = wordsOf(name);
  let nearest: string | undefined;
  let most = { similarity: 0, errors: Infinity };
  for (const candidate of SETTING_NAMES) {
    const others = wordsOf(candidate);
    // Most of an environment is not compared character by character.
    const isAsLong = Math.abs(candidate.length - name.length) <= MAX_TYPING_ERRORS;
    const isAlike = mayBeAlike(words, others, minSimilarity);
    if (!isAsLong && !isAlike) continue;
    const errors = typingErrors(name, candidate);
    if (errors > MAX_TYPING_ERRORS && !isAlike) continue;
    const similarity = similarityOf(words, others);
    if (errors > MAX_TYPING_ERRORS && similarity < minSimilarity) continue;
    const isMore = similarity > most.similarity;
    if (!isMore && (similarity < most.similarity || errors >= most.errors)) continue;
    nearest = candidate;
    most = { similarity, errors };
  }
  return nearest;
}

/** Whether {@link similarityOf} can be as much, if at most one word has typing errors. */
function mayBeAlike(
  left: readonly string[],
  right: readonly string[],
  minSimilarity: number,
): boolean {
  const shared = left.filter((word) => word !== UNIT && right.includes(word)).length;
  if (shared === 0) return false;
  const [leftWeight, rightWeight] = [weightOfAll(left), weightOfAll(right)];
  const alike = Math.min(leftWeight, rightWeight, shared + 1 + UNIT_WEIGHT);
  return (2 * alike) / (leftWeight + rightWeight) >= minSimilarity;
}

/** A unit at the end counts little: a person takes TTL, TTL_SECONDS and TTL_MS for the same name. */
const UNIT = 'unit';
const UNIT_WORDS = /^(MS|MILLIS|MILLISECONDS|S|SEC|SECS|SECONDS|M|MIN|MINUTES)$/;
const UNIT_WEIGHT = 0.3;

function wordsOf(name: string): readonly string[] {
  return name.split('_').map((word) => (UNIT_WORDS.test(word) ? UNIT : word));
}

function weightOfAll(words: readonly string[]): number {
  return words.reduce((sum, word) => sum + weightOf(word), 0);
}

function weightOf(word: string): number {
  return word === UNIT ? UNIT_WEIGHT : 1;
}

/** How much of both is alike, in the same order: 0 to 1. */
function similarityOf(left: readonly string[], right: readonly string[]): number {
  let row = right.map(() => 0);
  for (const word of left) {
    const next: number[] = [];
    for (const [j, other] of right.entries()) {
      const paired = (row[j - 1] ?? 0) + likenessOf(word, other);
      next.push(Math.max(paired, row[j] ?? 0, next[j - 1] ?? 0));
    }
    row = next;
  }
  return (2 * (row.at(-1) ?? 0)) / (weightOfAll(left) + weightOfAll(right));
}

/** Words that differ in more than every second character have nothing in common. */
const MIN_LIKENESS = 0.5;

function likenessOf(left: string, right: string): number {
  if (left === right) return weightOf(left);
  if (left === UNIT || right === UNIT) return 0;
  const length = Math.max(left.length, right.length);
  if (Math.min(left.length, right.length) / length < MIN_LIKENESS) return 0;
  const likeness = 1 - typingErrors(left, right) / length;
  return likeness < MIN_LIKENESS ? 0 : likeness;
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
