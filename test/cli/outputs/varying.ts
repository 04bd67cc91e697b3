/** What differs from run to run, in the output of every command. */

/** Names: the same name gets the same number, so that who is who still counts. */
const NAMES: readonly (readonly [string, RegExp])[] = [
  ['REQUEST', /\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:-\d+)?\b/g],
  ['KEY', /\b[0-9a-f]{32}\b/g],
  ['MACHINE', /\b[0-9a-f]{14}\b|\blocal\d{9}\b/g],
  ['SHORT-KEY', /\b[0-9a-f]{8}\b/g],
  ['PORT', /(?<=127\.0\.0\.1:|\bport=|"(?:public|peer|admin)":)\d+/g],
];

const VALUES: readonly (readonly [string, RegExp])[] = [
  ['TIME', /\b\d\d:\d\d:\d\d\.\d{3}\b/g],
  ['VERSION', /(?<![\d.])v?\d+\.\d+\.\d+(?![\d.])/g],
  ['N', /-?\b\d+(?:\.\d+)?(?= (?:ms|MB)\b)|\b\d+\.\d(?= s\b)|(?<=\b(?:ms|waitedMs)=)[\d.]+/g],
  ['DURATION', /(?<=expires in )[\dhms]+/g],
];

/** Columns are as wide as what is in them. */
const GAP = /(?<=\S) {2,}(?=\S)/g;
/** Nobody sees it, and Prettier takes it out of the documentation: a diff has it. */
const END_OF_LINE = / +$/gm;

/** The text with the same words for all of that. */
export function withoutVarying(text: string): string {
  const named = NAMES.reduce((all, [word, pattern]) => all.replace(pattern, numbered(word)), text);
  const valued = VALUES.reduce((all, [word, pattern]) => all.replace(pattern, word), named);
  return valued.replace(GAP, '  ').replace(END_OF_LINE, '');
}

function numbered(word: string): (name: string) => string {
  const names: string[] = [];
  return (name) => {
    if (!names.includes(name)) names.push(name);
    return `${word}-${names.indexOf(name) + 1}`;
  };
}
