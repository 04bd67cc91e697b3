/** The behavior of a client and the app on one client connection, generated from the seed. */
import type { Chance } from './chance.ts';

export interface Script {
  readonly number: number;
  /** The app responds to everything, and closes no connection that it announced as persistent. */
  readonly isTame: boolean;
  readonly requests: readonly RequestPlan[];
  readonly client: ClientPlan;
}

export interface RequestPlan {
  /** Part of the request, of its response and of both bodies. */
  readonly nonce: string;
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT';
  readonly version: '1.0' | '1.1';
  readonly framing: 'none' | 'length' | 'chunked';
  readonly bodyBytes: number;
  readonly app: AppPlan;
  readonly owner: OwnerPlan;
}

/** `at`: after the head, or after the complete body. */
type AppPlan =
  | ({ readonly kind: 'respond'; readonly at: 'head' | 'body' } & ResponsePlan)
  /** Ends or resets the connection within the response. */
  | ({ readonly kind: 'cut'; readonly by: Ending } & ResponsePlan)
  /** Sends more bytes than its length, in one packet. */
  | { readonly kind: 'exceed'; readonly bytes: number }
  | { readonly kind: 'close'; readonly by: Ending; readonly at: 'head' | 'body' }
  | { readonly kind: 'silent' }
  | {
      readonly kind: 'switch';
      readonly by: Ending;
      readonly bytes: number;
      readonly isFirst: boolean;
    };

export interface ResponsePlan {
  readonly framing: 'length' | 'chunked' | 'until-close';
  readonly bytes: number;
  readonly interim: number;
  readonly pieces: number;
  readonly then: 'keep' | Ending;
}

export type Ending = 'end' | 'reset';

export interface OwnerPlan {
  readonly holdsHead: boolean;
  readonly inspects: 'nothing' | 'passing' | 'holding';
}

export interface ClientPlan {
  /** Sends all requests at once. If false, each one after the previous response. */
  readonly pipelines: boolean;
  /** Maximum size of a packet. */
  readonly pieceBytes: number;
  /** Length of its read pauses, in turns of the event loop. */
  readonly pauseTurns: number;
  readonly leaves: Leaving | undefined;
}

/** The client disconnects after it has sent or received this many bytes. With `end` it keeps reading. */
interface Leaving {
  readonly after: 'sending' | 'receiving';
  readonly bytes: number;
  readonly by: Ending;
}

const MOST_REQUESTS = 4;
/** More than the socket buffers hold for a paused reader. */
const LARGE_BYTES = 6_000_000;

export function createScript(number: number, isTame: boolean, chance: Chance): Script {
  const count = chance.between(1, MOST_REQUESTS);
  const requests = Array.from({ length: count }, (_, index) =>
    createRequest(`n${number}x${index}`, isTame, chance),
  );
  return { number, isTame, requests, client: createClient(requests, chance) };
}

function createRequest(nonce: string, isTame: boolean, chance: Chance): RequestPlan {
  const version = chance.happens(0.1) ? '1.0' : '1.1';
  const app = isTame ? createTameApp(chance) : createApp(chance);
  const mayHaveBody = app.kind !== 'switch';
  const framing = mayHaveBody
    ? chance.pick(['none', 'none', 'length', 'chunked'] as const)
    : 'none';
  const method = methodFor(app, framing, chance);
  return {
    ...{ nonce, method, app },
    version: app.kind === 'switch' ? '1.1' : version,
    framing: version === '1.0' && framing === 'chunked' ? 'length' : framing,
    bodyBytes: framing === 'none' ? 0 : bytesOf(chance),
    owner: {
      holdsHead: chance.happens(0.2),
      inspects: chance.pick(['nothing', 'nothing', 'nothing', 'passing', 'holding'] as const),
    },
  };
}

function methodFor(
  { kind }: AppPlan,
  framing: RequestPlan['framing'],
  chance: Chance,
): RequestPlan['method'] {
  if (kind === 'switch') return 'GET';
  if (framing !== 'none') return chance.pick(['POST', 'PUT'] as const);
  return chance.pick(['GET', 'GET', 'GET', 'HEAD', 'POST'] as const);
}

function createApp(chance: Chance): AppPlan {
  const by = chance.pick(['end', 'reset'] as const);
  const at = chance.happens(0.25) ? 'head' : 'body';
  const kind = chance.below(100);
  if (kind < 70) return { kind: 'respond', at, ...createResponse(chance) };
  if (kind < 78) return { kind: 'cut', by, ...createResponse(chance) };
  if (kind < 82) return { kind: 'exceed', bytes: chance.between(1, 500) };
  if (kind < 90) return { kind: 'close', by, at };
  if (kind < 92) return { kind: 'silent' };
  return { kind: 'switch', by, bytes: chance.below(20_000), isFirst: chance.happens(0.5) };
}

function createTameApp(chance: Chance): AppPlan {
  const kind = chance.below(100);
  const at = chance.happens(0.25) ? 'head' : 'body';
  if (kind < 90) return { kind: 'respond', at, ...createResponse(chance), then: 'keep' };
  if (kind < 94) return { kind: 'exceed', bytes: chance.between(1, 500) };
  return { kind: 'switch', by: 'end', bytes: chance.below(20_000), isFirst: chance.happens(0.5) };
}

function createResponse(chance: Chance): ResponsePlan {
  return {
    framing: chance.pick(['length', 'length', 'chunked', 'chunked', 'until-close'] as const),
    bytes: bytesOf(chance),
    interim: chance.happens(0.1) ? chance.between(1, 3) : 0,
    pieces: chance.pick([1, 1, 1, 2, 5, 20]),
    then: chance.pick(['keep', 'keep', 'keep', 'keep', 'end', 'reset'] as const),
  };
}

function bytesOf(chance: Chance): number {
  if (chance.happens(0.005)) return LARGE_BYTES;
  return chance.below(chance.pick([1, 100, 3_000, 70_000, 200_000]));
}

function createClient(requests: readonly RequestPlan[], chance: Chance): ClientPlan {
  const mustLeave = requests.some(({ app }) => app.kind === 'silent');
  return {
    pipelines: chance.happens(0.5),
    pieceBytes: chance.pick([20, 1_000, 100_000, 10_000_000]),
    pauseTurns: chance.happens(0.2) ? chance.between(1, 30) : 0,
    leaves: mustLeave || chance.happens(0.3) ? createLeaving(chance) : undefined,
  };
}

function createLeaving(chance: Chance): Leaving {
  return {
    after: chance.pick(['sending', 'receiving'] as const),
    bytes: chance.below(chance.pick([100, 1_000, 50_000])),
    by: chance.pick(['end', 'reset'] as const),
  };
}

/** The bytes of a body, unique to this body. */
export function bodyOf(nonce: string, from: 'client' | 'app', bytes: number): Buffer {
  return Buffer.alloc(bytes, `${nonce} ${from};`);
}

/** Whether a request must get the response of the app. */
export function mustSucceed({ isTame }: Script, { method, app, framing }: RequestPlan): boolean {
  if (isTame) return true;
  // Other requests may use a connection that the app closes at the same moment, and are not retried.
  const isRetryable = (method === 'GET' || method === 'HEAD') && framing === 'none';
  if (!isRetryable) return false;
  // A reset discards undelivered bytes.
  return app.kind === 'exceed' || (app.kind === 'respond' && app.then !== 'reset');
}
