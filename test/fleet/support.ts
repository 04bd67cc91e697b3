/** Machines with real peer listeners on 127.0.0.1, for the tests of the fleet. */
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import type { Binding, MachineId, SessionKey } from '../../src/session.ts';
import type { Directory } from '../../src/fleet/directory.ts';
import { formatResponse, parseAsk, type KeyResponse } from '../../src/fleet/messages.ts';
import { createClaimResolver, type ClaimResolverOptions } from '../../src/fleet/claim-resolver.ts';
import { createPeerService, type PeerServiceOptions } from '../../src/fleet/peer-service.ts';
import { createPeers, type Peers, type PeersOptions } from '../../src/fleet/peers.ts';
import type { Liveness } from '../../src/fleet/liveness.ts';
import { createStaticDirectory } from '../../src/fleet/static-directory.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import type { SessionStore } from '../../src/store/store.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';
import { createTestLiveness } from '../support/liveness.ts';
import { servePeers } from '../support/peer-service.ts';

export const [SELF, B, C] = [machineId('aa'), machineId('bb'), machineId('cc')];
export const TTL_MS = 600_000;
export const STATUS = { version: 2, takesSessions: true, region: undefined };
export const KEY = keyOf('one');
export const NONE = { kind: 'none' };
export const INCONCLUSIVE = { kind: 'inconclusive' };
export const QUESTION_MS = 300;
/** A query without a response by then never gets one. */
export const RESPONSE_DEADLINE_MS = 2_000;
const HOST = '127.0.0.1';

export interface ListeningServer {
  readonly port: number;
  /** The number of its open connections. */
  readonly connections: () => Promise<number>;
  readonly close: () => Promise<void>;
}

export async function listen(t: TestContext, listener: RequestListener): Promise<ListeningServer> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve));
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  t.after(close);
  return {
    port: (server.address() as AddressInfo).port,
    connections: () =>
      new Promise((resolve, reject) =>
        server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
      ),
    close,
  };
}

export interface TestPeer extends ListeningServer {
  readonly machine: MachineId;
  readonly store: SessionStore;
  /** The paths of the requests received so far. */
  readonly requests: string[];
  /** While set, requests wait for it. */
  gate: Promise<void> | undefined;
  conflicts: string[];
}

export type PeerOptions = Partial<ClaimResolverOptions & PeerServiceOptions> & {
  readonly others?: readonly MachineId[];
};

/** A Machine that knows `others` at 127.0.0.1, with a store in memory. */
export async function startPeer(
  t: TestContext,
  clock: TestClock,
  machine: MachineId,
  options: PeerOptions = {},
): Promise<TestPeer> {
  const store = createStore(clock);
  const others = (options.others ?? [SELF]).map((other) => ({ machine: other, port: 1 }));
  const directory = await startDirectory(t, clock, machine, others);
  const conflicts: string[] = [];
  const claimResolver = createClaimResolver({
    self: machine,
    store,
    clock,
    isReady: () => true,
    onConflict: (outcome) => conflicts.push(outcome),
    ...options,
  });
  const status = () => STATUS;
  const service = createPeerService({
    self: machine,
    claimResolver,
    directory,
    status,
    ...options,
  });
  const server = await listen(t, (request, response) => {
    peer.requests.push(request.url ?? '');
    void Promise.resolve(peer.gate).then(() => servePeers(service, request, response));
  });
  const peer: TestPeer = {
    ...server,
    machine,
    store: options.store ?? store,
    requests: [],
    gate: undefined,
    conflicts,
  };
  return peer;
}

export function createStore(clock: TestClock): SessionStore {
  return createMemoryStore({ clock, limits: { maxSessions: 100_000, maxAgeMs: 0 } });
}

export async function startDirectory(
  t: TestContext,
  clock: TestClock,
  self: MachineId,
  peers: readonly { machine: MachineId; port: number }[],
  liveness = createTestLiveness(clock),
): Promise<Directory> {
  const directory = createStaticDirectory({
    self,
    entries: peers.map(({ machine, port }) => ({ machine, host: HOST, port })),
    lookup: () => Promise.reject(new Error('every host is an address')),
    liveness,
    clock,
  });
  t.after(() => directory.stop());
  await directory.start();
  return directory;
}

export interface QueryingMachine {
  readonly peers: Peers;
  readonly clock: TestClock;
  readonly directory: Directory;
  readonly liveness: Liveness;
  /** The outcomes that the hooks received. */
  readonly outcomes: string[];
  readonly outrankedBy: { key: SessionKey; machine: MachineId }[];
  readonly claims: { key: SessionKey; machine: MachineId }[];
  lost: number;
}

/** The Machine `SELF`, which knows these peers. */
export async function startQueryingMachine(
  t: TestContext,
  clock: TestClock,
  peersOf: readonly { machine: MachineId; port: number }[],
  options: Partial<PeersOptions> = {},
): Promise<QueryingMachine> {
  const liveness = createTestLiveness(clock);
  const directory = await startDirectory(t, clock, SELF, peersOf, liveness);
  const querying: QueryingMachine = {
    peers: createPeers({
      self: SELF,
      directory,
      clock,
      random: () => 0.5,
      liveness,
      onClaim: (key, { machine }) => querying.claims.push({ key, machine }),
      onOutranked: (key, { machine }) => querying.outrankedBy.push({ key, machine }),
      onQuery: (outcome) => querying.outcomes.push(outcome),
      onAnnouncementDropped: () => (querying.lost += 1),
      ...options,
    }),
    clock,
    directory,
    liveness,
    outcomes: [],
    outrankedBy: [],
    claims: [],
    lost: 0,
  };
  t.after(() => querying.peers.stop());
  return querying;
}

export async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

/** Runs the event loop until the condition holds; rejects after the timeout. */
/**
 * Long enough that only a condition that never holds takes longer, however busy the computer is.
 */
const UNTIL_TIMEOUT_MS = 20_000;

export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const endsAt = performance.now() + UNTIL_TIMEOUT_MS;
  while (!(await holds())) {
    if (performance.now() > endsAt) throw new Error(`never became true: ${holds.toString()}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export async function bind(peer: TestPeer, key: SessionKey, generation = 1): Promise<void> {
  const binding = { key, machine: peer.machine, origin: 'learned' as const, ttlMs: TTL_MS };
  await peer.store.upsert({ ...binding, generation });
}

export function ownBinding(clock: TestClock, fields: Partial<Binding> = {}): Binding {
  return {
    key: KEY,
    machine: SELF,
    origin: 'learned',
    generation: 1,
    createdAt: clock.now(),
    expiresAt: clock.now() + TTL_MS,
    ...fields,
  };
}

/** `SELF`, with two peers that own nothing. */
export async function startFleet(t: TestContext) {
  const clock = createTestClock();
  const [b, c] = [await startPeer(t, clock, B), await startPeer(t, clock, C)];
  return { b, c, ...(await startQueryingMachine(t, clock, [b, c])) };
}

/** Holds the peer's responses until the returned function is called. */
export function closeGate(peer: TestPeer): () => void {
  const gate = Promise.withResolvers<undefined>();
  peer.gate = gate.promise;
  return () => {
    peer.gate = undefined;
    gate.resolve(undefined);
  };
}

/** A peer listener that responds as the test states. */
export function startScriptedPeer(
  t: TestContext,
  machine: MachineId,
  respond: (key: SessionKey) => KeyResponse,
): Promise<ListeningServer> {
  return listen(t, (request, response) => {
    void readBody(request).then((text) => {
      const { questions } = parseAsk(text) ?? { questions: [] };
      const answers = new Map(questions.map(({ key }) => [key, respond(key)]));
      response.end(formatResponse({ machine, answers }));
    });
  });
}
