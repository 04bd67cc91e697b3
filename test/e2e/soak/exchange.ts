/** A request and its response on a connection, checked in all that every response must have. */
import { systemClock } from '../../../src/clock.ts';
import { later, lost, wrong } from './failure.ts';
import type { Step } from './step.ts';
import type { Connection } from './wire/connection.ts';
import { writeBody, writeHead, type Request } from './wire/request.ts';
import { readResponse, type Response, type ResponseHead, type Sink } from './wire/response.ts';

/** Of what no sink is given for. */
const MAX_KEPT_BYTES = 65_536;
/** What a sidecar answers whose app does not. */
const DOWN: ReadonlySet<number> = new Set([502, 503, 504]);

export interface ExchangeOptions extends Request {
  /** Takes the body of a response that has the status expected. */
  readonly sink?: Sink;
  /** 200 unless given. */
  readonly expects?: number;
  /** The body is sent once the server has asked for it. */
  readonly awaitsContinue?: boolean;
  /** Sends the whole body, even if the response is there before. */
  readonly sendsOn?: boolean;
  /** The client ends its side so many ms after it has sent the request. */
  readonly endsAfterMs?: number;
}

export interface Answer extends Response {
  /** What no sink has taken. */
  readonly body: Buffer;
  /** Which app has answered; undefined if none has. */
  readonly app: string | undefined;
  /** The whole request was sent. */
  readonly wasSentWhole: boolean;
}

/** How far an exchange is: its reader tells its writer. */
interface Progress {
  readonly continued: PromiseWithResolvers<undefined>;
  isAnswered: boolean;
}

/** Rejects with a `Failure` where there is no whole response. */
export async function exchange(
  step: Step,
  connection: Connection,
  options: ExchangeOptions,
  id: string,
): Promise<Answer> {
  const { ledger } = step.around;
  const machine = connection.machine.name;
  ledger.sent(machine, id);
  const progress = { continued: Promise.withResolvers<undefined>(), isAnswered: false };
  const kept = new KeptBytes();
  // A response that came whole counts, though the request could not be sent to its end.
  const [written, read] = await Promise.allSettled([
    write(connection, options, id, progress),
    readOrDestroy(connection, options, kept, progress),
  ]);
  if (read.status === 'rejected') throw read.reason;
  const response = read.value;
  ledger.answered(machine, id, response.status);
  checkId(response, id);
  const wasSentWhole = written.status === 'fulfilled' && written.value;
  return { ...response, body: kept.bytes(), app: appOf(response), wasSentWhole };
}

/** Resolves with whether the whole request was sent. */
async function write(
  connection: Connection,
  options: ExchangeOptions,
  id: string,
  progress: Progress,
): Promise<boolean> {
  const { body, awaitsContinue, sendsOn = false, endsAfterMs } = options;
  await writeHead(connection, options, id);
  if (awaitsContinue) await progress.continued.promise;
  const isWanted = (): boolean => sendsOn || !progress.isAnswered;
  const isWhole = body === undefined || (await writeBody(connection, body, isWanted));
  if (endsAfterMs === undefined) return isWhole;
  await systemClock.sleep(endsAfterMs);
  connection.end();
  return isWhole;
}

/** Where reading fails the connection goes, so that a writer which waits for room hears of it. */
async function readOrDestroy(
  connection: Connection,
  options: ExchangeOptions,
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
    progress.isAnswered = true;
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

function sinkFor(head: ResponseHead, options: ExchangeOptions, kept: KeptBytes): Sink {
  const isExpected = head.status === (options.expects ?? 200);
  return isExpected && options.sink ? options.sink : (piece) => kept.take(piece);
}

function appOf({ fields }: ResponseHead): string | undefined {
  return fields.get('x-soak-app');
}

/** An answer of an app is the answer to this request, and to no other. */
export function checkId(head: ResponseHead, id: string): void {
  const answered = head.fields.get('x-soak-id');
  if (appOf(head) !== undefined && answered !== id) {
    throw wrong(`the answer to ${answered ?? 'nothing'} came in place of the one to ${id}`);
  }
}

type HeadAndBody = ResponseHead & { readonly body?: Buffer };

/** Throws unless an answer has the status that it should have. */
export function checkStatus(answer: HeadAndBody, expected: number): void {
  if (answer.status === expected) return;
  checkNotDown(answer);
  throw wrong(`${shown(answer)} in place of ${expected}`);
}

/** Throws where a sidecar says that its app, or the Machine of the session, does not answer. */
export function checkNotDown(answer: HeadAndBody): void {
  const { status, fields } = answer;
  if (!DOWN.has(status) || appOf(answer) !== undefined) return;
  throw status === 503 && fields.has('retry-after') ? later(shown(answer)) : lost(shown(answer));
}

function shown({ status, body }: HeadAndBody): string {
  return `status ${status}, ${JSON.stringify(body?.toString('latin1').slice(0, 200) ?? '')},`;
}
