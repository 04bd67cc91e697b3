/** What doctor says of one thing: whether it is well, and if not, why that matters and what to do. */

/** `note`: nothing is wrong, or it could not be looked at. */
export type Level = 'ok' | 'note' | 'warning' | 'error';

export type Finding = Fine | Remark;

export interface Fine {
  readonly level: 'ok';
  /** A sentence. */
  readonly what: string;
}

export interface Remark {
  readonly level: 'note' | 'warning' | 'error';
  readonly what: string;
  readonly why: string;
  /** What to write or do instead; several lines where they belong into a file as they are. */
  readonly instead?: string | undefined;
}

/** Findings about one thing, under its name. */
export interface Section {
  readonly title: string;
  readonly findings: readonly Finding[];
}

export function ok(what: string): Fine {
  return { level: 'ok', what };
}

export function note(what: string, why: string, instead?: string): Remark {
  return remark('note', what, why, instead);
}

/** It works, but not as one would hope. */
export function warning(what: string, why: string, instead?: string): Remark {
  return remark('warning', what, why, instead);
}

/** It does not work, or sessions are lost. */
export function error(what: string, why: string, instead?: string): Remark {
  return remark('error', what, why, instead);
}

function remark(level: Remark['level'], what: string, why: string, instead?: string): Remark {
  return instead === undefined ? { level, what, why } : { level, what, why, instead };
}
