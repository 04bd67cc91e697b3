/** SockJS's own client over each kind of transport; it makes up the session's id by itself. */
import assert from 'node:assert/strict';
import SockJS from 'sockjs-client';
import { Counted } from '../support/mcp-client.ts';
import type { Target } from '../support/target.ts';
import { tellUntilHeard, ToldLater } from '../support/told-later.ts';

const TRANSPORTS = ['websocket', 'xhr-streaming', 'xhr-polling'];
const CALLS = 8;
/** Ended without a word (RFC 6455 §7.1.5), or before it stood: its transport was the only one allowed. */
const REFUSED: readonly number[] = [1006, 2000];
/** For its connection to stand, in ms; by default it gives up when a busy computer has not begun. */
const CONNECT_TIMEOUT_MS = 60_000;

export async function tellSockJsStory(target: Target): Promise<void> {
  await Promise.all(
    TRANSPORTS.map((transport) => tellUntilHeard(() => tellOver(target, transport))),
  );
}

async function tellOver({ url }: Target, transport: string): Promise<void> {
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

/** A refused request is all the same to this client, be it "later" or "gone": the ledger knows better. */
function closedError(what: string, code: number, reason: string): Error {
  const said = `${what}: closed with ${code} ${reason}`;
  return REFUSED.includes(code) ? new ToldLater(said) : new Error(said);
}
