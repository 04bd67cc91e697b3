/**
 * Invalid HTTP/1.1 (RFC 9112) is rejected, the connection ends, and neither the request nor the
 * data behind it reaches the app.
 */
import { systemClock } from '../../../../src/clock.ts';
import { Failure, Left, lost, wrong } from '../failure.ts';
import type { Step } from '../step.ts';
import { Connection } from '../wire/connection.ts';
import { readResponse } from '../wire/response.ts';
import { BEHIND } from './behind.ts';
import { bytesOf, drawRequest, readResponseTo } from './pipeline.ts';

const CLOSE_WITHIN_MS = 10_000;
/** How often a valid request precedes it, which must get a response. */
const VALID_BEFORE_SHARE = 0.2;
const ERROR_STATUSES: readonly number[] = [400, 414, 431, 501, 505];
/** The rest of a request may be sent later. */
const MAX_PAUSE_MS = 20;

const HOST = 'Host: soak.test';
/** Rejected by any server. */
const HEADS: readonly string[] = [
  head('GET /malformed HTTP/9.9', HOST),
  head('G(T /malformed HTTP/1.1', HOST),
  head('POST /malformed HTTP/1.1', HOST, 'Content-Length: 5x'),
  head('POST /malformed HTTP/1.1', HOST, 'Content-Length: -5'),
  head('POST /malformed HTTP/1.1', HOST, 'Content-Length: 5', 'Content-Length: 6'),
  head('POST /malformed HTTP/1.1', HOST, 'Content-Length: 5', 'Transfer-Encoding: chunked'),
  head('GET /malformed HTTP/1.1', HOST, 'Na me: x'),
  head('GET /malformed HTTP/1.1', HOST, 'Name : x'),
  head('GET /malformed HTTP/1.1', HOST, ' folded'),
  head('GET /malformed HTTP/1.1', HOST, 'Name: a\0b'),
  head('GET /malformed HTTP/1.1', HOST, 'Name: a\rb'),
  head('GET /malformed HTTP/1.1', HOST, ': x'),
  head('GET /malformed HTTP/1.1', HOST, `Name: ${'x'.repeat(100_000)}`),
];
/** Rejected by a sidecar, but accepted by node:http. */
const STRICT_HEADS: readonly string[] = [
  head('GET /malformed HTTP/1.1'),
  head('GET /malformed', HOST),
  head('GET /malformed HTTP/1.1', HOST, HOST),
  head('GET /malformed#fragment HTTP/1.1', HOST),
  head('POST /malformed HTTP/1.0', HOST, 'Transfer-Encoding: chunked'),
  head('GET * HTTP/1.1', HOST),
];
/** The app may receive the beginning of these. */
const BODIES: readonly string[] = ['zz\r\n', '5\r\nhelloX\r\n', '5 5\r\nhello\r\n', '-1\r\n'].map(
  (body) => head('POST /slow?ms=500 HTTP/1.1', HOST, 'Transfer-Encoding: chunked') + body,
);

function head(...lines: readonly string[]): string {
  return `${lines.join('\r\n')}\r\n\r\n`;
}

export async function malformed(step: Step): Promise<void> {
  const { chance, around } = step;
  const machine = step.anyMachine();
  const heads = around.isDirect ? HEADS : [...HEADS, ...STRICT_HEADS];
  const text = chance.pick(chance.isTrue(0.2) ? BODIES : heads);
  const isBehindValid = !around.isDirect && chance.isTrue(VALID_BEFORE_SHARE);
  const before = isBehindValid ? drawRequest(step, machine, []) : undefined;
  step.beginRequest(machine, undefined);
  around.ledger.sentMalformed(machine.name);
  const connection = await Connection.open(machine);
  try {
    if (before) {
      await connection.write(
        Buffer.concat([bytesOf(before), Buffer.from(text + BEHIND, 'latin1')]),
      );
      await readResponseTo(step, connection, before);
      await expectErrorResponse(connection, text);
      return;
    }
    const cut = chance.pick([text.length, chance.integer(1, text.length)]);
    const isCut = cut < text.length;
    await connection.write(Buffer.from(text.slice(0, cut) + (isCut ? '' : BEHIND), 'latin1'));
    if (isCut) await writeRest(step, connection, text.slice(cut) + BEHIND);
    await expectErrorResponse(connection, text);
  } catch (error) {
    const withinMs = error instanceof Failure ? error.outageWithinMs : undefined;
    if (!(error instanceof Failure) || withinMs === undefined) throw error;
    // node:http may reset a connection whose client was still sending. Then the client gets no
    // response.
    if (around.isDirect) throw new Left();
    throw lost(`${JSON.stringify(text.slice(0, 200))}: ${error.message}`, withinMs);
  } finally {
    connection.destroy();
  }
}

async function writeRest(step: Step, connection: Connection, rest: string): Promise<void> {
  await systemClock.sleep(step.chance.integer(1, MAX_PAUSE_MS));
  // It may have been rejected already.
  await connection.write(Buffer.from(rest, 'latin1')).catch(() => undefined);
}

async function expectErrorResponse(connection: Connection, text: string): Promise<void> {
  const shown = JSON.stringify(text.slice(0, 200));
  const { status } = await readResponse(connection, {
    method: 'GET',
    isHttp10: false,
    sinkFor: () => () => undefined,
  });
  // The app may be down before its sidecar has detected the error in the body.
  if (status === 502 || status === 503) throw lost(`${shown} got ${status}`);
  if (!ERROR_STATUSES.includes(status)) throw wrong(`${shown} got ${status}`);
  const behind = await connection.untilClosed(CLOSE_WITHIN_MS);
  if (behind.length > 0) throw wrong(`${shown}: bytes behind the error response`);
}
