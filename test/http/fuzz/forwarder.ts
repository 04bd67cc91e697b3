/**
 * A minimal proxy on the engine: a listener, a pool and a response pipe for each request. It passes
 * everything on, and records how its requests end.
 */
import { type MalformedRequest, formatRequest } from '../../../src/http/request-head.ts';
import { BufferBudget, ReadBuffers } from '../../../src/http/buffers.ts';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { systemClock, type Clock } from '../../../src/clock.ts';
import { DEFAULT_LIMITS, type Limits } from '../../../src/http/limits.ts';
import { createHttpListener, type HttpListener } from '../../../src/http/listener.ts';
import type { PipeOwner } from '../../../src/http/pipe-owner.ts';
import { ResponsePipe } from '../../../src/http/response-pipe.ts';
import type { IncomingRequest } from '../../../src/http/incoming-request.ts';
import type { RequestHandler } from '../../../src/http/served-requests.ts';
import { Sweep } from '../../../src/http/sweep.ts';
import { UpstreamPool } from '../../../src/http/upstream-pool.ts';
import { TRAILER_OPTIONS } from './request-reader.ts';

interface ForwarderOptions {
  readonly appPort: number;
  readonly limits?: Partial<Limits>;
  readonly clock?: Clock;
  readonly connectTimeoutMs?: number;
  readonly headTimeoutMs?: number;
  /** Keep-alive time of connections to the app, in ms. */
  readonly keepAliveMs?: number;
  /** The address of the app, or undefined if it is unknown. */
  readonly address?: () => { host: string; port: number } | undefined;
  /** Replaces `send` of the pool. */
  readonly send?: UpstreamPool['send'];
  /** Replaces methods of the owner of a request. `abort` aborts its pipe. */
  readonly hooks?: (incoming: IncomingRequest, abort: () => void) => Partial<PipeOwner>;
  /** Replaces methods of the request handler. */
  readonly handler?: (handler: RequestHandler) => Partial<RequestHandler>;
}

export interface Forwarder {
  readonly port: number;
  readonly listener: HttpListener;
  readonly pool: UpstreamPool;
  readonly budget: BufferBudget;
  readonly sweep: Sweep;
  /** Faults that the engine reported. */
  readonly faults: unknown[];
  /** How every started request ended. A request that ends twice appears twice. */
  readonly endings: readonly Ending[];
  /** Number of started pipes. */
  readonly startedCount: () => number;
  close(): Promise<void>;
}

export type Ending = 'finished' | 'failed' | 'cut' | 'broken' | 'client-gone' | 'fault';

export async function startForwarder(
  t: { after(end: () => Promise<void>): void },
  options: ForwarderOptions,
): Promise<Forwarder> {
  const { appPort, clock = systemClock, connectTimeoutMs = 5_000, headTimeoutMs = 0 } = options;
  const limits: Limits = { ...DEFAULT_LIMITS, ...options.limits };
  const budget = new BufferBudget(limits.totalBufferBytes);
  const sweep = new Sweep(clock);
  const faults: unknown[] = [];
  const endings: Ending[] = [];
  let started = 0;
  const onFault = (error: unknown): void => void faults.push(error);
  const shared = { trailers: TRAILER_OPTIONS, budget, sweep, onFault };
  const pool = new UpstreamPool({
    ...shared,
    ...{ headBytes: limits.headBytes, fields: limits.fields, connectTimeoutMs, headTimeoutMs },
    ...(options.keepAliveMs === undefined ? {} : { keepAliveMs: options.keepAliveMs }),
    address: options.address ?? (() => ({ host: '127.0.0.1', port: appPort })),
    maxConnections: limits.upstreamConnections,
    buffers: new ReadBuffers(),
  });

  if (options.send) pool.send = options.send;

  function handle(incoming: IncomingRequest): void {
    started += 1;
    const owner = createOwner(incoming, { onFault, onEnd: (ending) => endings.push(ending) });
    const hooks = options.hooks?.(incoming, () => pipe.abort());
    const pipe = createPipe(incoming, pool, { ...owner, ...hooks });
    pipe.start();
  }

  const handler: RequestHandler = {
    handle,
    handleMalformed: (incoming, why) => reject(incoming, why),
  };
  const listener = createHttpListener({
    ...{ ...shared, limits, clock, protectedNames: new Set() },
    handler: { ...handler, ...options.handler?.(handler) },
    isEnding: () => false,
    onRefusedConnection: () => undefined,
  });
  listener.server.listen(0, '127.0.0.1');
  await once(listener.server, 'listening');

  async function close(): Promise<void> {
    await listener.close(0);
    await pool.close();
  }
  t.after(close);
  const { port } = listener.server.address() as AddressInfo;
  return {
    ...{ port, listener, pool, budget, sweep, faults, endings },
    startedCount: () => started,
    close,
  };
}

/** Creates the pipe that passes a request on to the app. */
function createPipe(incoming: IncomingRequest, pool: UpstreamPool, owner: PipeOwner): ResponsePipe {
  const { head } = incoming;
  const asksForUpgrade = head.upgrade !== undefined;
  const text = formatRequest(head, {
    ...{ target: head.target, rawHeaders: head.rawHeaders, asksForUpgrade },
    added: head.host === undefined ? 'Host: app\r\n' : '',
  });
  const body = incoming.takeEarly();
  const isComplete = incoming.isBodyComplete;
  const { method, upgrade } = head;
  const request = { method, head: text, body, isComplete, upgrade };
  return new ResponsePipe(incoming, pool, request, owner);
}

interface OwnerParts {
  readonly onFault: (error: unknown) => void;
  readonly onEnd: (ending: Ending) => void;
}

function createOwner(incoming: IncomingRequest, { onFault, onEnd }: OwnerParts): PipeOwner {
  return {
    onInterim: ({ rawHeaders }) => rawHeaders,
    onResponse: ({ rawHeaders }) => ({ rawHeaders }),
    onResponseStarted: () => undefined,
    onUpgradeResponse: ({ rawHeaders }) => ({ rawHeaders }),
    onTunnel: () => undefined,
    onFailed: ({ code }) => {
      onEnd('failed');
      respond(incoming, 502, code);
    },
    onResponseAborted: () => onEnd('cut'),
    onMalformedBody: ({ status, reason }) => {
      onEnd('broken');
      respond(incoming, status, reason);
    },
    onClientDisconnected: () => onEnd('client-gone'),
    onFinished: () => onEnd('finished'),
    onFault: (error) => {
      if (error === undefined) onEnd('fault');
      else onFault(error);
      incoming.destroy();
    },
  };
}

function reject(incoming: IncomingRequest, { status, reason }: MalformedRequest): void {
  respond(incoming, status, reason);
}

/** Sends a local response with the nonce of the request, as the app does. */
function respond(incoming: IncomingRequest, status: number, body: string): void {
  const { rawHeaders } = incoming.head;
  const at = rawHeaders.findIndex((text, index) => index % 2 === 0 && text === 'X-Nonce');
  const nonce = at === -1 ? [] : ['X-Nonce', rawHeaders[at + 1] ?? ''];
  incoming.respond({ status, headers: ['X-Local', 'yes', ...nonce], body });
}
