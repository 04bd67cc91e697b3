/** Findings of the doctor, and their report as text for people and as JSON for programs. */

/** `note`: nothing is wrong, or the check was not possible. */
export type Level = 'ok' | 'note' | 'warning' | 'error';

export type Finding = Success | Remark;

export interface Success {
  readonly level: 'ok';
  /** A sentence. */
  readonly what: string;
}

export interface Remark {
  readonly level: 'note' | 'warning' | 'error';
  readonly what: string;
  readonly why: string;
  /** What to write or do instead; several lines if they go into a file as they are. */
  readonly instead?: string | undefined;
}

/** The findings on one subject. */
export interface Section {
  readonly title: string;
  readonly findings: readonly Finding[];
  /** Whether the sidecar would not start with these settings. */
  readonly hasMistakes?: boolean;
}

export function ok(what: string): Success {
  return { level: 'ok', what };
}

export function note(what: string, why: string, instead?: string): Remark {
  return remark('note', what, why, instead);
}

/** It works, but not well. */
export function warning(what: string, why: string, instead?: string): Remark {
  return remark('warning', what, why, instead);
}

/** It does not work, or loses sessions. */
export function error(what: string, why: string, instead?: string): Remark {
  return remark('error', what, why, instead);
}

function remark(level: Remark['level'], what: string, why: string, instead?: string): Remark {
  return instead === undefined ? { level, what, why } : { level, what, why, instead };
}

/** With each of its texts changed. */
export function renamed(
  findings: readonly Finding[],
  rename: (text: string) => string,
): readonly Finding[] {
  return findings.map((finding) => {
    if (finding.level === 'ok') return ok(rename(finding.what));
    const { level, what, why, instead } = finding;
    return remark(level, rename(what), rename(why), instead && rename(instead));
  });
}

/** Whether any finding is an error. */
export function hasErrors(sections: readonly Section[]): boolean {
  return countOf(sections, 'error') > 0;
}

/** One JSON object, with a line break at its end. */
export function formatJson(sections: readonly Section[]): string {
  const counts = Object.fromEntries(LEVELS.map((level) => [level, countOf(sections, level)]));
  const findings = sections.flatMap(({ title, findings }) =>
    findings.map((finding) => ({ group: title, ...finding })),
  );
  return `${JSON.stringify({ ok: !hasErrors(sections), counts, findings }, undefined, 2)}\n`;
}

const LEVELS: readonly Level[] = ['ok', 'note', 'warning', 'error'];

export function formatText(sections: readonly Section[]): string {
  const shown = sections.filter(({ findings }) => findings.length > 0);
  const parts = shown.map(
    ({ title, findings }) => `${title}\n${findings.map(formatFinding).join('')}`,
  );
  return `${parts.join('\n')}\n${summaryOf(sections)}\n`;
}

const INDENT = ' '.repeat(11);
const WIDTH = 100;

function formatFinding(finding: Finding): string {
  const head = `  ${finding.level.padEnd(INDENT.length - 2)}`;
  const text = wrap(finding.what);
  return finding.level === 'ok' ? `${head}${text}\n` : `${head}${text}\n${formatRemark(finding)}`;
}

function formatRemark({ why, instead }: Remark): string {
  const because = `${INDENT}${wrap(why)}\n`;
  if (instead === undefined) return because;
  const lines = instead.split('\n');
  if (lines.length === 1) return `${because}${INDENT}Try: ${instead}\n`;
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
  return sections.flatMap(({ findings }) => findings).filter((finding) => finding.level === level)
    .length;
}
