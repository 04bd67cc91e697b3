/**
 * Looks at the messages at the beginning of an event stream. Each is held from its data on until it is
 * whole, and goes out if it teaches nothing; what holds no data waits for the end of its line alone.
 */
import { MAX_HELD_BYTES, type BodyInspector, type InspectedChunk } from './body-inspector.ts';
import type { DiscoveredId, MessageDiscovery, Protocol } from './protocol.ts';
import { parseSessionId } from '../session.ts';

const LF = 0x0a;
const CR = 0x0d;
const BYTE_ORDER_MARK = '\xef\xbb\xbf';
/** One space after the colon is not part of the value (HTML standard, "Parsing an event stream"). */
const DATA_LINE = /^data(?::\x20?(.*))?$/s;
const NOTHING = new Uint8Array(0);

export function createSseMessageInspector(
  protocol: Protocol,
  { read }: Pick<MessageDiscovery, 'read'>,
): BodyInspector {
  let held = NOTHING;
  let lookedAtBytes = 0;
  let line = '';
  let data: string[] = [];
  let isAfterCr = false;
  let mayBeginWithMark = true;
  let isDone = false;

  const push = (chunk: Uint8Array): InspectedChunk => {
    if (isDone) return finish(chunk, undefined);
    const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    let outUntil = 0;
    for (let at = held.length; at < bytes.length; at += 1) {
      if (lookedAtBytes === MAX_HELD_BYTES) return finish(bytes, undefined);
      lookedAtBytes += 1;
      const lesson = readByte(bytes[at] ?? 0);
      if (lesson) return finish(bytes, lesson);
      if (line === '' && data.length === 0) outUntil = at + 1;
    }
    held = Uint8Array.from(bytes.subarray(outUntil));
    return { out: nonEmpty(bytes.subarray(0, outUntil)), discovered: undefined, isDone: false };
  };

  /** LF, CR and CRLF end a line. */
  const readByte = (byte: number): DiscoveredId | undefined => {
    const isSecondHalfOfCrlf = isAfterCr && byte === LF;
    isAfterCr = byte === CR;
    if (isSecondHalfOfCrlf) return undefined;
    if (byte === LF || byte === CR) return endLine();
    line += String.fromCharCode(byte);
    if (mayBeginWithMark && line === BYTE_ORDER_MARK) {
      line = '';
      mayBeginWithMark = false;
    }
    return undefined;
  };

  const endLine = (): DiscoveredId | undefined => {
    const ended = line;
    line = '';
    mayBeginWithMark = false;
    if (ended === '') return endEvent();
    const value = DATA_LINE.exec(ended);
    if (value) data.push(value[1] ?? '');
    return undefined;
  };

  const endEvent = (): DiscoveredId | undefined => {
    const text = data.length === 0 ? undefined : read(data.join('\n'));
    data = [];
    const id = text === undefined ? undefined : parseSessionId(text);
    return id && { id, protocol };
  };

  /** A client that is less strict than the standard may take an event that has not ended for one. */
  const end = (): InspectedChunk => {
    if (isDone) return finish(NOTHING, undefined);
    const lesson = endLine() ?? endEvent();
    return finish(held, lesson);
  };

  const finish = (out: Uint8Array, lesson: DiscoveredId | undefined): InspectedChunk => {
    isDone = true;
    held = NOTHING;
    return { out: nonEmpty(out), discovered: lesson, isDone };
  };

  return { push, end };
}

function nonEmpty(bytes: Uint8Array): Uint8Array | undefined {
  return bytes.length > 0 ? bytes : undefined;
}
