/** SockJS's own client over each kind of transport; it creates the session's id by itself. */
import assert from 'node:assert/strict';
import SockJS from 'sockjs-client';
import { Counted } from '../support/mcp-client.ts';
import type { Target } from '../support/target.ts';
import { retryWhileUnavailable, RetryLaterError } from '../support/retry-later.ts';

const TRANSPORTS = ['websocket', 'xhr-streaming', 'xhr-polling'];
const CALLS = 8;
/**
 * Closed without a code (RFC 6455 §7.1.5), or before it was open: its transport was the only one
 * allowed.
 */
const REJECTED: readonly number[] = [1006, 2000];
/** Timeout for opening its connection, in ms; the default is too short for a busy computer. */
const CONNECT_TIMEOUT_MS = 60_000;

export async function runSockJsScenario(target: Target): Promise<void> {
  await Promise.all(
    TRANSPORTS.map((transport) => retryWhileUnavailable(() => runOver(target, transport))),
  );
}

async function runOver({ url }: Target, transport: string): Promise<void> {
  const socket = await open(`${url}/echo`, transport);
  const { machine, pid } = await call(socket);
  for (let count = 2; count <= CALLS; count += 1) {
    assert.deepEqual(await call(socket), { machine, pid, count }, transport);
  }
  const closed = new Promise<number>((resolve) => {
    socket.onclose = ({ code }) => resolve(code);
  });
  socket.close(1000);
  assert.equal(await closed, 1000);
}

type Socket = InstanceType<typeof SockJS>;

function open(url: string, transport: string): Promise<Socket> {
  const socket = new SockJS(url, undefined, {
    transports: [transport],
    timeout: CONNECT_TIMEOUT_MS,
  });
  return new Promise((resolve, reject) => {
    socket.onopen = () => resolve(socket);
    socket.onclose = ({ code, reason }) => reject(closedError(transport, code, reason));
  });
}

function call(socket: Socket): Promise<Counted> {
  return new Promise((resolve, reject) => {
    socket.onclose = ({ code, reason }) => reject(closedError('a call', code, reason));
    socket.onmessage = ({ data }) => resolve(Counted.parse(JSON.parse(String(data))));
    socket.send('count');
  });
}

/** The client does not distinguish a 503 from "session not found": the ledger does. */
function closedError(what: string, code: number, reason: string): Error {
  const message = `${what}: closed with ${code} ${reason}`;
  return REJECTED.includes(code) ? new RetryLaterError(message) : new Error(message);
}
