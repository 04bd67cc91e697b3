/** The report of the doctor: as text for people, and as JSON for programs. */
import { hasErrors, type Finding, type Level, type Remark, type Section } from './report.ts';

/** One JSON object, with a line break at its end. */
export function formatJson(sections: readonly Section[]): string {
  const counts = Object.fromEntries(LEVELS.map((level) => [level, countOf(sections, level)]));
  const findings = sections.flatMap(({ title, findings }) =>
    // What people read as `instead`.
    findings.map((finding) => ({ group: title, ...finding, fix: undefined })),
  );
  return `${JSON.stringify({ ok: !hasErrors(sections), counts, findings }, undefined, 2)}\n`;
}

const LEVELS: readonly Level[] = ['ok', 'note', 'warning', 'error'];

/** What matters first: errors, warnings, and notes in a line each. Each once. */
export function formatText(sections: readonly Section[]): string {
  const findings = uniqueIn(sections);
  const ofLevel = (level: Level): Finding[] => findings.filter((each) => each.level === level);
  const shown = new Set<string>();
  const serious = [...ofLevel('error'), ...ofLevel('warning')].map(
    (finding) => `${formatFinding(finding, shown)}\n`,
  );
  const notes = ofLevel('note').map(({ what }) => `  note     ${wrap(what)}\n`);
  const last = notes.length === 0 ? '' : `${notes.join('')}\n`;
  return `${serious.join('')}${last}${summaryOf(sections)} More with --all.\n`;
}

function uniqueIn(sections: readonly Section[]): readonly Finding[] {
  const all = sections.flatMap(({ findings }) => findings);
  const ofText = new Map(all.map((finding) => [`${finding.level} ${finding.what}`, finding]));
  return [...ofText.values()];
}

/** Every finding, by its subject. */
export function formatAll(sections: readonly Section[]): string {
  const shown = sections.filter(({ findings }) => findings.length > 0);
  const parts = shown.map(
    ({ title, findings }) =>
      `${title}\n${findings.map((finding) => formatFinding(finding)).join('')}`,
  );
  return `${parts.join('\n')}\n${summaryOf(sections)}\n`;
}

const INDENT = ' '.repeat(11);
const WIDTH = 100;

/** `shown`: advice that need not be repeated. */
function formatFinding(finding: Finding, shown = new Set<string>()): string {
  const head = `  ${finding.level.padEnd(INDENT.length - 2)}`;
  const text = wrap(finding.what);
  if (finding.level === 'ok') return `${head}${text}\n`;
  return `${head}${text}\n${formatRemark(finding, shown)}`;
}

function formatRemark({ why, instead }: Remark, shown: Set<string>): string {
  const because = `${INDENT}${wrap(why)}\n`;
  if (instead === undefined) return because;
  const lines = instead.split('\n');
  if (lines.length === 1) return `${because}${INDENT}Try: ${instead}\n`;
  if (shown.has(instead)) return `${because}${INDENT}Try: the same.\n`;
  shown.add(instead);
  return `${because}${INDENT}Try:\n${lines.map((line) => `${INDENT}  ${line}\n`).join('')}`;
}

/** Lines after the first are indented. */
function wrap(text: string): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (INDENT.length + longer.length > WIDTH && line !== '') {
      lines.push(line);
      line = word;
    } else line = longer;
  }
  return [...lines, line].join(`\n${INDENT}`);
}

function summaryOf(sections: readonly Section[]): string {
  const [notes, warnings, errors] = (['note', 'warning', 'error'] as const).map((level) => {
    const count = countOf(sections, level);
    return `${count} ${level}${count === 1 ? '' : 's'}`;
  });
  return `${errors}, ${warnings}, ${notes}.`;
}

function countOf(sections: readonly Section[], level: Level): number {
  return uniqueIn(sections).filter((finding) => finding.level === level).length;
}
