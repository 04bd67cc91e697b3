/** A request and its response on a connection, with the checks that every response must pass. */
import { systemClock } from '../../../src/clock.ts';
import { later, lost, wrong } from './failure.ts';
import type { Step } from './step.ts';
import type { Connection } from './wire/connection.ts';
import { writeBody, writeHead, type Request } from './wire/request.ts';
import { readResponse, type Response, type ResponseHead, type Sink } from './wire/response.ts';

/** Limit for a body without a sink. */
const MAX_KEPT_BYTES = 65_536;
/** A sidecar's response when its app does not respond. */
const DOWN: ReadonlySet<number> = new Set([502, 503, 504]);

export interface RequestOptions extends Request {
  /** Receives the body of a response with the expected status. */
  readonly sink?: Sink;
  /** Default 200. */
  readonly expects?: number;
  /** The body is sent after the server's 100 Continue. */
  readonly awaitsContinue?: boolean;
  /** Sends the whole body, even if the response arrives earlier. */
  readonly sendsOn?: boolean;
  /** The client ends its side this many ms after it has sent the request. */
  readonly endsAfterMs?: number;
}

export interface SoakResponse extends Response {
  /** The part that no sink has received. */
  readonly body: Buffer;
  /** The app that responded; undefined if none did. */
  readonly app: string | undefined;
  /** The whole request was sent. */
  readonly wasSentWhole: boolean;
}

/** The progress of a request, shared by its reader and its writer. */
interface Progress {
  readonly continued: PromiseWithResolvers<undefined>;
  hasResponse: boolean;
}

/** Rejects with a `Failure` if there is no complete response. */
export async function sendRequest(
  step: Step,
  connection: Connection,
  options: RequestOptions,
  id: string,
): Promise<SoakResponse> {
  const { ledger } = step.around;
  const machine = connection.machine.name;
  ledger.sent(machine, id);
  const progress = { continued: Promise.withResolvers<undefined>(), hasResponse: false };
  const kept = new KeptBytes();
  // A complete response counts, even if the request could not be sent completely.
  const [written, read] = await Promise.allSettled([
    write(connection, options, id, progress),
    readOrDestroy(connection, options, kept, progress),
  ]);
  if (read.status === 'rejected') throw read.reason;
  const response = read.value;
  ledger.recordResponse(machine, id, response.status);
  checkId(response, id);
  const wasSentWhole = written.status === 'fulfilled' && written.value;
  return { ...response, body: kept.bytes(), app: appOf(response), wasSentWhole };
}

/** Resolves with whether the whole request was sent. */
async function write(
  connection: Connection,
  options: RequestOptions,
  id: string,
  progress: Progress,
): Promise<boolean> {
  const { body, awaitsContinue, sendsOn = false, endsAfterMs } = options;
  await writeHead(connection, options, id);
  if (awaitsContinue) await progress.continued.promise;
  const isWanted = (): boolean => sendsOn || !progress.hasResponse;
  const isWhole = body === undefined || (await writeBody(connection, body, isWanted));
  if (endsAfterMs === undefined) return isWhole;
  await systemClock.sleep(endsAfterMs);
  connection.end();
  return isWhole;
}

/**
 * When reading fails the connection is destroyed, so that a writer that waits for room is released.
 */
async function readOrDestroy(
  connection: Connection,
  options: RequestOptions,
  kept: KeptBytes,
  progress: Progress,
): Promise<Response> {
  try {
    return await readResponse(connection, {
      method: options.method,
      isHttp10: options.version === '1.0',
      sinkFor: (head) => sinkFor(head, options, kept),
      onContinue: () => progress.continued.resolve(undefined),
    });
  } catch (error) {
    connection.destroy();
    throw error;
  } finally {
    progress.hasResponse = true;
    progress.continued.resolve(undefined);
  }
}

class KeptBytes {
  readonly #pieces: Buffer[] = [];
  #length = 0;

  take(piece: Buffer): void {
    if (this.#length < MAX_KEPT_BYTES) this.#pieces.push(piece);
    this.#length += piece.length;
  }

  bytes(): Buffer {
    return Buffer.concat(this.#pieces);
  }
}

function sinkFor(head: ResponseHead, options: RequestOptions, kept: KeptBytes): Sink {
  const isExpected = head.status === (options.expects ?? 200);
  return isExpected && options.sink ? options.sink : (piece) => kept.take(piece);
}

function appOf({ fields }: ResponseHead): string | undefined {
  return fields.get('x-soak-app');
}

/** An app's response belongs to this request, and to no other. */
export function checkId(head: ResponseHead, id: string): void {
  const respondingApp = head.fields.get('x-soak-id');
  if (appOf(head) !== undefined && respondingApp !== id) {
    throw wrong(`the response to ${respondingApp ?? 'nothing'} came in place of the one to ${id}`);
  }
}

type HeadAndBody = ResponseHead & { readonly body?: Buffer };

/** Throws unless a response has the expected status. */
export function checkStatus(response: HeadAndBody, expected: number): void {
  if (response.status === expected) return;
  checkNotDown(response);
  throw wrong(`${shown(response)} in place of ${expected}`);
}

/** Throws when a sidecar reports that its app, or the Machine of the session, does not respond. */
export function checkNotDown(response: HeadAndBody): void {
  const { status, fields } = response;
  if (!DOWN.has(status) || appOf(response) !== undefined) return;
  throw status === 503 && fields.has('retry-after')
    ? later(shown(response))
    : lost(shown(response));
}

function shown({ status, body }: HeadAndBody): string {
  return `status ${status}, ${JSON.stringify(body?.toString('latin1').slice(0, 200) ?? '')},`;
}
