/**
 * Dispatches the requests of the admin listener by a table of routes. Everything common to all of
 * them is here: the token, 401, 404, 405, what an error becomes, and which requests are in flight.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Clock } from '../clock.ts';
import type { Logger } from '../observability/log.ts';
import { StoreError } from '../store/store.ts';
import { HOST_REFUSED, isPublicHost } from './public-host.ts';
import { createTokenBucket } from '../fleet/rate-limits.ts';

export interface Route<Parts> {
  readonly methods: readonly ('GET' | 'HEAD' | 'POST' | 'DELETE')[];
  /** Exact, or with `/*` at its end for every path that begins so. */
  readonly path: string;
  /**
   * `token`: requires `ADMIN_TOKEN`; without that setting the route does not exist. `detail`: open to all;
   * the token gives more detail, see {@link AdminCall.access}.
   */
  readonly auth: 'none' | 'detail' | 'token';
  /** A check may send any `Host`. */
  readonly isHealthCheck?: true;
  /** Responds. What it throws becomes an error response: see {@link HttpError}. */
  readonly handle: (call: AdminCall, parts: Parts) => Promise<void> | void;
}

/** `denied`: with another token than `ADMIN_TOKEN`, or with any where there is no such setting. */
export type Access = 'open' | 'full' | 'denied';

/** A request of the admin listener and its response. */
export interface AdminCall {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly path: string;
  /** The part of the path that `/*` stands for. */
  readonly rest: string;
  readonly query: URLSearchParams;
  /** Aborts when the response is finished, or when the client disconnects before. */
  readonly closed: AbortSignal;
  /** What the `Authorization` of the request gives access to. */
  readonly access: Access;
  /** The same for a token from elsewhere in the request. */
  readonly accessWith: (token: string) => Access;
}

interface AdminRouterOptions<Parts> {
  readonly routes: readonly Route<Parts>[];
  readonly parts: Parts;
  readonly token: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class AdminRouter<Parts> {
  readonly #routes: readonly Route<Parts>[];
  readonly #parts: Parts;
  readonly #logger: Logger;
  readonly #accessOf: AccessCheck;
  readonly #inFlight = new Set<Promise<void>>();
  /** Connections with a request in flight. */
  readonly #busy = new WeakSet<Socket>();
  /** Those whose last request had the token. */
  readonly #ofOperators = new WeakSet<Socket>();

  constructor({ routes, parts, token, clock, logger }: AdminRouterOptions<Parts>) {
    this.#routes = token === undefined ? routes.filter(({ auth }) => auth !== 'token') : routes;
    this.#parts = parts;
    this.#logger = logger;
    this.#accessOf =
      token === undefined ? () => 'denied' : createTokenCheck({ token, clock, logger });
  }

  /** Responds to every request, and to one at a time on a connection. Never throws. */
  handle(request: IncomingMessage, response: ServerResponse): void {
    if (this.#isPipelined(request, response)) {
      request.socket.destroy();
      return;
    }
    const handling = this.#dispatch(request, response).finally(() => {
      this.#inFlight.delete(handling);
    });
    this.#inFlight.add(handling);
  }

  /** node:http would render the responses to all pipelined requests, thousands in one packet, before any is read. */
  #isPipelined({ socket }: IncomingMessage, response: ServerResponse): boolean {
    if (this.#busy.has(socket)) return true;
    this.#busy.add(socket);
    response.once('finish', () => this.#busy.delete(socket));
    return false;
  }

  /** Whether its last request had the token. */
  isOfOperator(socket: Socket): boolean {
    return this.#ofOperators.has(socket);
  }

  /** Resolves when no request is in flight. Requests end by themselves once their connections are closed. */
  async idle(): Promise<void> {
    await Promise.all(this.#inFlight);
  }

  async #dispatch(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path, query] = splitTarget(request.url);
    const matches = this.#routes.filter((route) => restOf(route, path) !== undefined);
    const [first] = matches;
    if (!first) {
      respondError(response, 'none', 404, 'not found');
      return;
    }
    const access = this.#accessFor(first, request);
    if (access === 'denied' && isToBeHidden(first, request)) {
      respondError(response, first.auth, 403, HOST_REFUSED);
      return;
    }
    if (first.auth === 'token' && access !== 'full') {
      response.setHeader('www-authenticate', 'Bearer');
      respondError(response, first.auth, 401, 'needs Authorization: Bearer ADMIN_TOKEN');
      return;
    }
    const route = matches.find(({ methods }) =>
      methods.some((method) => method === request.method),
    );
    if (!route) {
      response.setHeader('allow', matches.flatMap(({ methods }) => methods).join(', '));
      respondError(response, first.auth, 405, 'method not allowed');
      return;
    }
    const rest = restOf(route, path) ?? '';
    const closed = closeSignalOf(response);
    const accessWith = (given: string): Access => this.#accessOf(request, given);
    const call = { request, response, path, rest, closed, access, accessWith };
    try {
      await route.handle({ ...call, query: new URLSearchParams(query) }, this.#parts);
    } catch (error) {
      this.#handleError(error, route, response);
    }
  }

  #accessFor(route: Route<Parts>, request: IncomingMessage): Access {
    const { auth } = route;
    const given = tokenIn(request);
    // Only where the token is needed, a request without one is logged.
    const isOpen =
      !isToBeHidden(route, request) && (auth === 'none' || (auth === 'detail' && given === ''));
    const access = isOpen ? 'open' : this.#accessOf(request, given);
    if (access === 'full') this.#ofOperators.add(request.socket);
    else this.#ofOperators.delete(request.socket);
    return access;
  }

  #handleError(error: unknown, route: Route<Parts>, response: ServerResponse): void {
    const { status, message } = describe(error);
    const isStoreFailure = error instanceof StoreError;
    // A client that disconnects aborts its own request, which is not a failure.
    if (status >= 500 && (isStoreFailure || !response.destroyed)) {
      const level = isStoreFailure ? 'warn' : 'error';
      this.#logger[level]({ err: error, path: route.path }, 'admin request failed');
    }
    if (response.headersSent) response.destroy();
    else if (!response.destroyed) respondError(response, route.auth, status, message);
  }
}

/**
 * The path and the query of a request target. Everything after the first `?` is the query: it may
 * contain more of them (RFC 3986 §3.4), for example in the path for `/explain`.
 */
function splitTarget(target = ''): readonly [path: string, query: string] {
  const at = target.indexOf('?');
  return at === -1 ? [target, ''] : [target.slice(0, at), target.slice(at + 1)];
}

/** A web page may have made a browser send it. */
function isToBeHidden({ auth, isHealthCheck }: Route<never>, request: IncomingMessage): boolean {
  return auth !== 'token' && !isHealthCheck && isPublicHost(request.headers.host);
}

/** Undefined if the route is not for this path. */
function restOf({ path: pattern }: Route<never>, path: string): string | undefined {
  if (!pattern.endsWith('/*')) return path === pattern ? '' : undefined;
  const prefix = pattern.slice(0, -1);
  return path.startsWith(prefix) ? path.slice(prefix.length) : undefined;
}

function closeSignalOf(response: ServerResponse): AbortSignal {
  const closed = new AbortController();
  response.once('close', () => closed.abort());
  return closed.signal;
}

export const STORE_FAILED = 'the session store failed: see the log of the sidecar';

/** Shows nothing internal. */
function describe(error: unknown): { readonly status: number; readonly message: string } {
  if (error instanceof HttpError) return error;
  if (error instanceof StoreError) return { status: 503, message: STORE_FAILED };
  return { status: 500, message: 'failed' };
}

/** Endpoints for programs with the token get JSON, those for probes and browsers plain text. */
function respondError(
  response: ServerResponse,
  auth: Route<never>['auth'],
  status: number,
  message: string,
): void {
  if (auth !== 'token') respond(response, status, TEXT_TYPE, `${message}\n`);
  else respondJson(response, status, { error: message });
}

/* Checks whether a request to the admin listener carries `ADMIN_TOKEN`. */

/** Logs what is denied. */
type AccessCheck = (request: IncomingMessage, given: string) => Access;

interface TokenCheckOptions {
  readonly token: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Someone who guesses tokens causes one log line a minute, however often they try. */
const LOGGED_PER_SECOND = 1 / 60;
/** RFC 6750 §2.1; the name of the scheme is case-insensitive (RFC 9110 §11.1). */
const BEARER = /^bearer +(\S+) *$/i;

function createTokenCheck({ token, clock, logger }: TokenCheckOptions): AccessCheck {
  const expected = digest(token);
  const mayLog = createTokenBucket({ ratePerSecond: LOGGED_PER_SECOND, burst: 1, clock });
  let refusedCount = 0;

  return ({ socket }, given) => {
    // Digests have the same length, and comparing them reveals nothing about the token.
    if (timingSafeEqual(digest(given), expected)) return 'full';
    refusedCount += 1;
    if (mayLog()) {
      const address = socket.remoteAddress;
      logger.warn({ address, refusedCount }, 'admin request without the right ADMIN_TOKEN');
    }
    return 'denied';
  };
}

/** Empty without `Authorization`. The credentials of another scheme are a wrong token. */
function tokenIn({ headers: { authorization = '' } }: IncomingMessage): string {
  return BEARER.exec(authorization)?.[1] ?? authorization;
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

export const TEXT_TYPE = 'text/plain; charset=utf-8';
export const JSON_TYPE = 'application/json; charset=utf-8';

/** A request that can't be served as it is: thrown by handlers, turned into a response by the router. */
export class HttpError extends Error {
  override readonly name = 'HttpError';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** For HEAD, node:http leaves out the body. */
export function respond(
  response: ServerResponse,
  status: number,
  type: string,
  body: string,
): void {
  const { req: request } = response;
  // Do not wait for a request body that nothing reads: close the connection after the response.
  if (!request.complete && hasBody(request)) response.setHeader('connection', 'close');
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
  });
  response.end(body);
}

export function respondJson(response: ServerResponse, status: number, body: object): void {
  respond(response, status, JSON_TYPE, `${JSON.stringify(body)}\n`);
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}
