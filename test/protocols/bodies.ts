/** Sends a body through a tap, as the wire does. */
import type { BodyInspector } from '../../src/protocols/body-inspector.ts';
import assert from 'node:assert/strict';

export interface PassedBody {
  /** All that went out, in the end. */
  readonly out: string;
  readonly id: string | undefined;
  /** What went out before the lesson; all of it if there was none. */
  readonly early: string;
}

/** Latin-1 for bytes. */
export function passBody(tap: BodyInspector, chunks: readonly string[]): PassedBody {
  let [out, early] = ['', ''];
  let id: string | undefined;
  const take = ({ out: bytes, discovered: lesson }: ReturnType<BodyInspector['end']>): void => {
    assert.ok(id === undefined || lesson === undefined, 'one lesson a body');
    if (lesson) early = out;
    out += Buffer.from(bytes ?? []).toString('latin1');
    id = lesson?.id ?? id;
  };
  for (const chunk of chunks) {
    const bytes = Buffer.from(chunk, 'latin1');
    const pushed = tap.push(bytes);
    take({ ...pushed, out: pushed.out && Uint8Array.from(pushed.out) });
    // The wire may use the memory of a chunk again once it was taken.
    bytes.fill(0);
  }
  take(tap.end());
  return { out, id, early: id === undefined ? out : early };
}

/** Cuts a text at any places. */
export function cutText(text: string, places: readonly number[]): string[] {
  const at = [...new Set(places.map((place) => place % (text.length + 1)))].sort((a, b) => a - b);
  return [...at, text.length].map((end, i) => text.slice(at[i - 1] ?? 0, end));
}
