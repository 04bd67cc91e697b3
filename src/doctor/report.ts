/** Findings of the doctor. */
import { tomlLines, type Change } from './change.ts';

/** `note`: nothing is wrong, or the check was not possible. */
export type Level = 'ok' | 'note' | 'warning' | 'error';

export type Finding = Success | Remark;

interface Success {
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
  /** Changes of the configuration file after which the finding is gone. */
  readonly fix?: readonly Change[];
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

/** A finding that these changes of the file fix. `or`: what can be done instead of them. */
export function fixable(
  level: Remark['level'],
  what: string,
  why: string,
  fix: readonly Change[],
  or?: string,
): Remark {
  const lines = tomlLines(fix);
  return { level, what, why, instead: or === undefined ? lines : `${lines}\n${or}`, fix };
}

/** With each of its texts changed. */
export function renamed(
  findings: readonly Finding[],
  rename: (text: string) => string,
): readonly Finding[] {
  return findings.map((finding) => {
    if (finding.level === 'ok') return ok(rename(finding.what));
    const { what, why, instead } = finding;
    const texts = { what: rename(what), why: rename(why) };
    return { ...finding, ...texts, ...(instead !== undefined && { instead: rename(instead) }) };
  });
}

/** Whether any finding is an error. */
export function hasErrors(sections: readonly Section[]): boolean {
  return sections.some(({ findings }) => findings.some(({ level }) => level === 'error'));
}
