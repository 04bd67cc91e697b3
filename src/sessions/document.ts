/** Whole documents of sessions, written and read in pieces: a million takes no more memory than one. */
import type { Binding } from '../session.ts';
import { formatEnd, formatSession, HEAD, parseSessionLine } from './format.ts';
import { createLineSplitter, type NumberedLine } from './lines.ts';

/** What reading finds, in order; `line` counts from 1. */
export type DocumentItem =
  | { readonly kind: 'session'; readonly line: number; readonly binding: Binding }
  | { readonly kind: 'bad'; readonly line: number; readonly problem: string }
  /** The document is not what it should be as a whole; nothing behind it is looked at. */
  | { readonly kind: 'broken'; readonly line: number; readonly problem: string };

export interface DocumentReader {
  push(chunk: Buffer): DocumentItem[];
  end(): DocumentItem[];
}

/** Several times the longest one that is ever written. */
const MAX_LINE_BYTES = 2_048;
/** About so many characters are handed on at a time. */
const CHUNK_CHARACTERS = 32_768;

/** Many lines at a time. */
export function formatDocument(
  bindings: AsyncIterable<Binding> | Iterable<Binding>,
): AsyncGenerator<string> {
  return inChunks(formatLines(bindings));
}

async function* formatLines(
  bindings: AsyncIterable<Binding> | Iterable<Binding>,
): AsyncGenerator<string> {
  let count = 0;
  yield HEAD;
  for await (const binding of bindings) {
    count += 1;
    yield formatSession(binding);
  }
  yield formatEnd(count);
}

/** Lines, each with its line break, as a few long texts. */
export async function* inChunks(lines: AsyncIterable<string>): AsyncGenerator<string> {
  let text = '';
  for await (const line of lines) {
    text += `${line}\n`;
    if (text.length < CHUNK_CHARACTERS) continue;
    yield text;
    text = '';
  }
  if (text !== '') yield text;
}

/**
 *   head expected --head--> sessions expected --last line--> head expected
 *        |                        |
 *        +-- another line --------+-- another head --> broken
 */
export function createDocumentReader(): DocumentReader {
  const splitter = createLineSplitter(MAX_LINE_BYTES);
  let state: 'before-head' | 'in-sessions' | 'between' | 'broken' = 'before-head';
  /** Of this document: the last line names as many. */
  let sessionCount = 0;
  let lastLine = 0;

  const broken = (line: number, problem: string): DocumentItem => {
    state = 'broken';
    return { kind: 'broken', line, problem };
  };
  const readOutside = ({ number, text = '' }: NumberedLine): DocumentItem | undefined => {
    const parsed = parseSessionLine(text);
    if (parsed.kind === 'foreign') return broken(number, parsed.problem);
    if (parsed.kind !== 'head')
      return broken(number, `must be the first line of an export: ${HEAD}`);
    state = 'in-sessions';
    sessionCount = 0;
    return undefined;
  };
  const readInside = ({ number: line, text }: NumberedLine): DocumentItem | undefined => {
    const parsed = text === undefined ? TOO_LONG : parseSessionLine(text);
    switch (parsed.kind) {
      case 'end':
        state = 'between';
        if (parsed.sessionCount === sessionCount) return undefined;
        return broken(line, countProblem(parsed.sessionCount, sessionCount));
      case 'head':
        return broken(line, `comes before the last line of the export that it follows`);
      case 'foreign':
        return broken(line, parsed.problem);
      case 'bad':
        sessionCount += 1;
        return { kind: 'bad', line, problem: parsed.problem };
      case 'session':
        sessionCount += 1;
        return { kind: 'session', line, binding: parsed.binding };
    }
  };
  const read = (line: NumberedLine): DocumentItem[] => {
    lastLine = line.number;
    if (state === 'broken' || line.text?.trim() === '') return [];
    const finding = state === 'in-sessions' ? readInside(line) : readOutside(line);
    return finding === undefined ? [] : [finding];
  };

  return {
    push: (chunk) => splitter.push(chunk).flatMap(read),
    end: () => {
      const findings = splitter.end().flatMap(read);
      const problem = state === 'before-head' ? NOTHING : state === 'in-sessions' ? CUT : undefined;
      return problem === undefined ? findings : [...findings, broken(lastLine, problem)];
    },
  };
}

const TOO_LONG = {
  kind: 'bad',
  problem: `is longer than ${MAX_LINE_BYTES} bytes`,
} as const;
const NOTHING = `nothing came; the first line must be ${HEAD}`;
const CUT = 'the export was cut short: its last line, which counts the sessions, is not there';

function countProblem(told: number, found: number): string {
  return `counts ${told} sessions, and ${found} came: the export is not whole`;
}
