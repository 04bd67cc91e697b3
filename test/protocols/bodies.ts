/** Sends a body through an inspector, as the engine does. */
import type { BodyInspector } from '../../src/protocols/body-inspector.ts';
import assert from 'node:assert/strict';

interface PassedBody {
  /** The complete output. */
  readonly out: string;
  readonly id: string | undefined;
  /** The output before the discovered id; all of it if there was none. */
  readonly early: string;
}

/** Latin-1 for bytes. */
export function passBody(inspector: BodyInspector, chunks: readonly string[]): PassedBody {
  let [out, early] = ['', ''];
  let id: string | undefined;
  const take = ({ out: bytes, discovered }: ReturnType<BodyInspector['end']>): void => {
    assert.ok(discovered.length <= (id === undefined ? 1 : 0), 'one discovered id per body');
    if (discovered.length > 0) early = out;
    out += Buffer.from(bytes ?? []).toString('latin1');
    id = discovered[0]?.id ?? id;
  };
  for (const chunk of chunks) {
    const bytes = Buffer.from(chunk, 'latin1');
    const pushed = inspector.push(bytes);
    take({ ...pushed, out: pushed.out && Uint8Array.from(pushed.out) });
    // The engine may reuse the memory of a chunk after it was handled.
    bytes.fill(0);
  }
  take(inspector.end());
  return { out, id, early: id === undefined ? out : early };
}

/** Cuts a text at any positions. */
export function cutText(text: string, positions: readonly number[]): string[] {
  const at = [...new Set(positions.map((position) => position % (text.length + 1)))].sort(
    (a, b) => a - b,
  );
  return [...at, text.length].map((end, i) => text.slice(at[i - 1] ?? 0, end));
}
