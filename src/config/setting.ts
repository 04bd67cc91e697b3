/** One row of the table of settings. */
import type { Parse } from './parsers.ts';

export interface Setting<Value> {
  readonly parse: Parse<Value>;
  /** What is parsed when the variable is unset or empty; undefined: the value is undefined then. */
  readonly fallback: string | undefined;
  /** The default as the reader of the table sees it. */
  readonly shownFallback: string;
  /** One sentence, or two. */
  readonly summary: string;
  /** Fly.io sets it; a person does so only elsewhere. */
  readonly isSetByFly: boolean;
}

export function setting<Value>(
  fallback: string,
  parse: Parse<Value>,
  summary: string,
): Setting<Value> {
  return { parse, fallback, shownFallback: fallback, summary, isSetByFly: false };
}

export function optional<Value>(
  parse: Parse<Value>,
  summary: string,
  shownFallback = 'unset',
): Setting<Value | undefined> {
  return { parse, fallback: undefined, shownFallback, summary, isSetByFly: false };
}

export function setByFly<Value>(
  parse: Parse<Value>,
  summary: string,
  shownFallback = 'unset',
): Setting<Value | undefined> {
  return { ...optional(parse, summary, shownFallback), isSetByFly: true };
}
