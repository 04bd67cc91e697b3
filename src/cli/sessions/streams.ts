/** Standard input and output as the command uses them. */
import type { Readable, Writable } from 'node:stream';
import { MAX_SESSION_ID_BYTES } from '../../session.ts';

export interface Streams {
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly stderr: Writable & { readonly isTTY?: boolean };
}

/** Resolves when the text is written, so that a slow reader slows the writer; rejects if that fails. */
export function write(stream: Writable, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, (error) => {
      if (error) reject(error);
      else resolve();
    });
  });
}

/** A message for the operator, apart from the output of the command. */
export function printMessage({ stderr }: Pick<Streams, 'stderr'>, message: string): void {
  stderr.write(`fly-affinity sessions: ${message}\n`);
}

/** Twice the longest session id: a character may be two bytes of UTF-8 in it. */
const MAX_LINE_CHARACTERS = 2 * MAX_SESSION_ID_BYTES;

/** Without its line break. */
export async function readFirstLine(stdin: Readable): Promise<string> {
  let text = '';
  for await (const chunk of stdin) {
    text += String(chunk);
    if (text.includes('\n') || text.length > MAX_LINE_CHARACTERS) break;
  }
  return (text.split('\n', 1)[0] ?? '').replace(/\r$/, '');
}
