/**
 * Clients of each kind that call repeatedly, in one session each. Cut connections and 503s are
 * retried; a "session not found" is a failure.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { StreamableHTTPError } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ErrorCode, McpError } from '@modelcontextprotocol/sdk/types.js';
import type { WebSocket } from 'ws';
import { systemClock } from '../../../src/clock.ts';
import { Counted } from '../support/mcp-client.ts';
import { MAX_TRIES, retryingFetch, RETRY_AFTER_MS } from '../support/retrying-fetch.ts';
import type { Target } from '../support/target.ts';
import { until } from '../support/until.ts';
import { openMcpSession, type McpSession } from './mcp.ts';
import { callOver, openRpcSession, openSocket } from './rpc.ts';

export interface Visitor {
  readonly kind: 'mcp' | 'call' | 'upload' | 'socket';
  /** The process that opened the session. */
  readonly machine: string;
  readonly pid: number;
  /** One more call; rejects with {@link Interrupted} if it may be retried. */
  call(): Promise<Counted>;
  /**
   * Resolves with the next message that the server sends on its own; immediately where it sends
   * none.
   */
  nextPush(): Promise<void>;
  leave(): Promise<void>;
}

/** The call was lost, or the response was a 503: the session is unchanged. */
class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

/** Whether it is a 503, or a connection lost on the way. */
const PASSING: ReadonlySet<number> = new Set([502, 503, 504]);
/** The type of the codes that errors carry. */
const REQUEST_TIMEOUT: number = ErrorCode.RequestTimeout;
const PAUSE_MS = 50;
const TOO_LARGE_TO_REPLAY_BYTES = 1_100_000;

/** One of each kind, their sessions on this Machine. */
export function openVisitors(target: Target, machine: string): Promise<Visitor[]> {
  return Promise.all([
    openMcpVisitor(target, machine),
    openRpcVisitor(target, machine, 'call'),
    openRpcVisitor(target, machine, 'upload'),
    openSocketVisitor(target, machine),
  ]);
}

/** Calls until there is a response; it must come from the process of the session. */
export async function callWithRetries(visitor: Visitor): Promise<Counted> {
  for (let tries = 1; ; tries += 1) {
    try {
      const counted = await visitor.call();
      assert.deepEqual(
        [counted.machine, counted.pid],
        [visitor.machine, visitor.pid],
        visitor.kind,
      );
      return counted;
    } catch (error) {
      if (!(error instanceof Interrupted) || tries === MAX_TRIES) throw error;
      await systemClock.sleep(RETRY_AFTER_MS);
    }
  }
}

/** Calls until it is stopped; the session's count never decreases. */
export async function callUntil(visitor: Visitor, isOver: () => boolean): Promise<void> {
  let last = 0;
  while (!isOver()) {
    const { count } = await callWithRetries(visitor);
    assert.ok(count > last, `${visitor.kind}: ${count} after ${last}`);
    last = count;
    await systemClock.sleep(PAUSE_MS);
  }
}

async function openMcpVisitor(target: Target, machine: string): Promise<Visitor> {
  const session = await openMcpSession(target, atFirstOn(machine));
  const { pid } = await session.call('count');
  return {
    kind: 'mcp',
    machine,
    pid,
    call: async () => {
      try {
        return await session.call('count');
      } catch (error) {
        throw isPassing(error) ? new Interrupted('MCP', { cause: error }) : error;
      }
    },
    nextPush: () => untilPush(session),
    leave: () => session.client.close(),
  };
}

/** The stream for it may have been cut: then the client opens another, in its own time. */
async function untilPush(session: McpSession): Promise<void> {
  let hasPush = false;
  const push = session.nextNotification().then(() => {
    hasPush = true;
  });
  await until(async () => {
    if (!hasPush) await session.call('announce');
    return hasPush ? [] : ['a notification'];
  });
  await push;
}

function isPassing(error: unknown): boolean {
  if (error instanceof StreamableHTTPError) return PASSING.has(error.code ?? 0);
  // The stream with the response was cut.
  if (error instanceof McpError) return error.code === REQUEST_TIMEOUT;
  return isLostConnection(error);
}

/** The message of `fetch` for a connection that was cut. */
function isLostConnection(error: unknown): boolean {
  return error instanceof TypeError && /^(fetch failed|terminated)$/.test(error.message);
}

async function openRpcVisitor(
  target: Target,
  machine: string,
  kind: 'call' | 'upload',
): Promise<Visitor> {
  const { id, pid } = await openRpcSession(target, atFirstOn(machine));
  const body = Buffer.alloc(kind === 'upload' ? TOO_LARGE_TO_REPLAY_BYTES : 1);
  return {
    kind,
    machine,
    pid,
    call: async () => {
      const url = `${target.url}/rpc/call?session_id=${id}`;
      const response = await fetch(url, { method: 'POST', body }).catch(interrupted);
      if (PASSING.has(response.status)) throw new Interrupted(`status ${response.status}`);
      assert.equal(response.status, 200, 'of a call over HTTP');
      return Counted.parse(await response.json().catch(interrupted));
    },
    nextPush: () => Promise.resolve(),
    leave: () => Promise.resolve(),
  };
}

function interrupted(error: unknown): never {
  throw isLostConnection(error) ? new Interrupted('HTTP', { cause: error }) : error;
}

/** Keeps one socket as long as it can, then opens another. */
async function openSocketVisitor(target: Target, machine: string): Promise<Visitor> {
  const { id, pid } = await openRpcSession(target, atFirstOn(machine));
  let socket: WebSocket | undefined;
  return {
    kind: 'socket',
    machine,
    pid,
    call: async () => {
      try {
        socket ??= await openSocket(target, id);
        return await callOver(socket);
      } catch (error) {
        socket?.terminate();
        socket = undefined;
        throw isCutSocket(error) ? new Interrupted('WebSocket', { cause: error }) : error;
      }
    },
    nextPush: () => Promise.resolve(),
    leave: async () => {
      if (!socket || socket.readyState === socket.CLOSED) return;
      const closed = once(socket, 'close');
      socket.close();
      await closed;
    },
  };
}

/** In the words of `ws`. */
function isCutSocket(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const status = /^Unexpected server response: (\d+)$/.exec(error.message)?.[1];
  if (status !== undefined) return PASSING.has(Number(status));
  return /closed|ECONNRESET|socket hang up/i.test(error.message);
}

/** Requests a Machine from the edge while there is no session that would name one. */
export function atFirstOn(machine: string): typeof fetch {
  return (address, init) => {
    const headers = new Headers(init?.headers);
    if (!headers.has('mcp-session-id')) headers.set('fly-force-instance-id', machine);
    return retryingFetch(address, { ...init, headers });
  };
}
