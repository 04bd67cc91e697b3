/**
 * An app that replays writes to its primary, behind sidecars that replay to the owner of a session:
 * a write takes one replay of each, and neither undoes the other's.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { z } from 'zod';
import { parseReplay, parseReplaySource } from '../../src/fly.ts';
import type { SimulatedMachine } from '../../src/simulator/machine.ts';
import { parseRunLine, type Run } from './app-replays/run-journal.ts';
import { startFleet, type Fleet } from './support/fleet.ts';
import { shortened } from './support/shortened.ts';

/** A test that hangs ends, and stops its Machines. */
const LONG = { timeout: 180_000 };
/** Each of them starts at a different Machine than the previous one. */
const WRITES = 6;
const COOKIE = 'AFF';
const STATE = 'captured_write';
const MODES = ['instance', 'region', 'elsewhere'] as const;
const UNKNOWN_MACHINE = 'd8901e5b6e1234';

type Mode = (typeof MODES)[number];

const Account = z.object({
  machine: z.string(),
  id: z.string().optional(),
  isKnown: z.boolean(),
  source: z.string(),
  requestId: z.string(),
});
type Account = z.infer<typeof Account>;

interface Scene {
  readonly fleet: Fleet;
  readonly primary: SimulatedMachine;
  /** The Machines that have the sessions. */
  readonly replica: SimulatedMachine;
  /** The runs reported by the apps, by request. */
  readonly runs: Map<string, Run[]>;
  /** The expected runs of each write. */
  readonly expected: Map<string, { readonly writer: string; readonly replica: string }>;
}

describe('an app replays writes to its primary', () => {
  testApp('ids with hints', { SESSION_ID_HINTS: 'true' });
  testApp('ids without hints', { SESSION_ID_HINTS: 'false' });
  testApp('replays that the edge may cache', {
    SESSION_ID_HINTS: 'false',
    REPLAY_CACHEABLE: 'true',
  });
});

function testApp(name: string, env: Record<string, string>): void {
  test(`behind sidecars, ${name}:`, LONG, async (t) => {
    const scene = await startScene(t, env);
    for (const mode of MODES) {
      await t.test(`by ${mode}, without a session`, () => testWithoutSession(scene, mode));
    }
    for (const header of ['mcp-session-id', 'x-session-id'] as const) {
      for (const mode of MODES) {
        await t.test(`by ${mode}, of a session in ${header}`, () =>
          testSession(scene, header, mode),
        );
      }
    }
    for (const mode of MODES) {
      await t.test(`by ${mode}, of a visitor with an affinity cookie`, () =>
        testCookie(scene, mode),
      );
      await t.test(`by ${mode}, a WebSocket of a session`, () => testSocket(scene, mode));
    }
    await t.test('a session that a write opens is owned by the primary', () => testOpening(scene));
    // A replay for the edge's cache has no mark, so there the one replay counts as used.
    if (env.REPLAY_CACHEABLE === undefined)
      await t.test('a replay of another app is a first pass', () => testRouter(scene));
    await t.test('a replay of another app reaches its session', () =>
      testReachThroughRouter(scene),
    );
    await t.test(
      'each write runs once at its target, and once on the Machine that replayed it',
      async () => {
        // The decisions are known once their log lines are written.
        await scene.fleet.close();
        assert.deepEqual(wronglyRun(scene), []);
        assert.deepEqual(restless(scene), []);
      },
    );
  });
}

async function startScene(t: TestContext, env: Record<string, string>): Promise<Scene> {
  const runs = new Map<string, Run[]>();
  const fleet = await startFleet(t, {
    hints: env.SESSION_ID_HINTS === 'true',
    appCommand: [process.execPath, fileURLToPath(new URL('app-replays/app.ts', import.meta.url))],
    env: { ...env, SESSION_PROTOCOLS: 'mcp,rpc', AFFINITY_COOKIE: COOKIE },
    onLine: (_machine, source, line) => {
      const run = source === 'app' ? parseRunLine(line) : undefined;
      if (run) runs.set(run.requestId, [...(runs.get(run.requestId) ?? []), run]);
    },
  });
  const [primary, replica] = fleet.machines;
  assert.ok(primary && replica);
  for (const { ports } of fleet.machines) {
    const response = await fetch(`http://127.0.0.1:${ports.app}/primary?is=${primary.id}`);
    await response.body?.cancel();
  }
  return { fleet, primary, replica, runs, expected: new Map() };
}

async function testWithoutSession(scene: Scene, mode: Mode): Promise<void> {
  const headers = { 'fly-force-instance-id': scene.replica.id };
  const account = await accountOf(await call(scene, `/write?mode=${mode}`, headers, 'POST'));
  checkWrite(scene, mode, account);
}

async function testSession(scene: Scene, header: string, mode: Mode): Promise<void> {
  const { replica } = scene;
  const headers = { [header]: await openSession(scene, header) };
  for (let writes = 0; writes < WRITES; writes += 1) {
    const account = await accountOf(await call(scene, `/write?mode=${mode}`, headers, 'POST'));
    checkWrite(scene, mode, account);
    const read = await accountOf(await call(scene, '/read', headers));
    assert.deepEqual([read.machine, read.isKnown], [replica.id, true]);
  }
}

async function testCookie(scene: Scene, mode: Mode): Promise<void> {
  const { replica } = scene;
  const opened = await call(scene, '/read', { 'fly-force-instance-id': replica.id });
  let cookie = cookieOf(opened) ?? '';
  assert.ok(cookie.includes(replica.id), 'the cookie names the Machine');
  await opened.body?.cancel();
  for (let writes = 0; writes < WRITES; writes += 1) {
    const written = await call(scene, `/write?mode=${mode}`, { cookie }, 'POST');
    cookie = cookieOf(written) ?? cookie;
    checkWrite(scene, mode, await accountOf(written));
    const read = await call(scene, '/read', { cookie });
    cookie = cookieOf(read) ?? cookie;
    assert.equal((await accountOf(read)).machine, replica.id);
  }
}

async function testSocket(scene: Scene, mode: Mode): Promise<void> {
  const { fleet, replica } = scene;
  const headers = { 'mcp-session-id': await openSession(scene, 'mcp-session-id') };
  for (let writes = 0; writes < WRITES; writes += 1) {
    const url = fleet.target.url.replace(/^http/, 'ws');
    const socket = new WebSocket(`${url}/socket?mode=${mode}`, { headers });
    const [message] = (await once(socket, 'message')) as [Buffer];
    checkWrite(scene, mode, Account.parse(JSON.parse(message.toString())));
    const closed = once(socket, 'close');
    socket.close();
    await closed;
    const read = await accountOf(await call(scene, '/read', headers));
    assert.deepEqual([read.machine, read.isKnown], [replica.id, true]);
  }
}

async function testOpening(scene: Scene): Promise<void> {
  const { primary, replica } = scene;
  const header = 'mcp-session-id';
  const headers = { [header]: await openSession(scene, header) };
  const path = `/write?mode=instance&opens=${header}`;
  const written = await call(scene, path, headers, 'POST');
  const opened = { [header]: written.headers.get(header) ?? '' };
  checkWrite(scene, 'instance', await accountOf(written));
  for (let reads = 0; reads < WRITES; reads += 1) {
    const ofOpened = await accountOf(await call(scene, '/read', opened));
    assert.deepEqual([ofOpened.machine, ofOpened.isKnown], [primary.id, true]);
    const ofWriter = await accountOf(await call(scene, '/read', headers));
    assert.deepEqual([ofWriter.machine, ofWriter.isKnown], [replica.id, true]);
  }
}

/** A Machine outside this fleet has replayed the request: its app selects apps, not Machines. */
async function testRouter(scene: Scene): Promise<void> {
  const { fleet, replica } = scene;
  const headers = await headersOfRouter(scene);
  for (const { id, ports } of fleet.machines.filter((machine) => machine !== replica)) {
    const address = `http://127.0.0.1:${ports.public}/read`;
    const response = await fetch(address, { headers });
    await response.body?.cancel();
    const replay = parseReplay(response.headers.get('fly-replay') ?? '');
    assert.equal(replay?.instance, replica.id, `${id} replays to the owner`);
  }
}

async function testReachThroughRouter(scene: Scene): Promise<void> {
  const headers = await headersOfRouter(scene);
  const read = await accountOf(await call(scene, '/read', headers));
  assert.deepEqual([read.machine, read.isKnown], [scene.replica.id, true]);
}

async function headersOfRouter(scene: Scene): Promise<Record<string, string>> {
  return {
    'mcp-session-id': await openSession(scene, 'mcp-session-id'),
    'fly-replay-src': `instance=${UNKNOWN_MACHINE};region=iad;t=1`,
  };
}

/** On the replica; through the edge, as a client of that region would. */
async function openSession(scene: Scene, header: string): Promise<string> {
  const headers = { 'fly-force-instance-id': scene.replica.id };
  const response = await call(scene, `/open?id-in=${header}`, headers, 'POST');
  const id = response.headers.get(header) ?? '';
  assert.notEqual(id, '');
  assert.equal((await accountOf(response)).machine, scene.replica.id);
  return id;
}

/** The response is that of the target of the write, which sees what the replica sent to it. */
function checkWrite({ fleet, primary, replica, expected }: Scene, mode: Mode, account: Account) {
  const others = fleet.machines.filter((machine) => machine !== replica);
  const writers = (mode === 'elsewhere' ? others : [primary]).map(({ id }) => String(id));
  assert.ok(writers.includes(account.machine), `${account.machine} has written`);
  const { instance, state } = parseReplaySource(account.source);
  assert.deepEqual([instance, state], [replica.id, STATE]);
  expected.set(account.requestId, { writer: account.machine, replica: replica.id });
}

async function call(
  { fleet }: Scene,
  path: string,
  headers: Record<string, string>,
  method: 'GET' | 'POST' = 'GET',
): Promise<Response> {
  return fetch(`${fleet.target.url}${path}`, {
    method,
    headers,
    ...(method === 'POST' && { body: 'the expected write' }),
  });
}

async function accountOf(response: Response): Promise<Account> {
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return Account.parse(JSON.parse(text));
}

function cookieOf(response: Response): string | undefined {
  const [pair] = response.headers.getSetCookie().map((line) => line.split(';', 1)[0]);
  return pair?.startsWith(`${COOKIE}=`) ? pair : undefined;
}

/** The writes that were not run once by the replica, and then once by the target. */
function wronglyRun({ runs, expected }: Scene): string[] {
  const wrong = [...runs]
    .filter(([requestId, ofRequest]) => !isAsExpected(ofRequest, expected.get(requestId)))
    .map(([requestId, ofRequest]) => `${requestId}: ${wayOf(ofRequest)}`);
  return shortened(wrong);
}

type Expected = Scene['expected'] extends Map<string, infer Value> ? Value : never;

function isAsExpected(runs: readonly Run[], expected: Expected | undefined): boolean {
  if (!expected) return runs.length === 1 && runs[0]?.outcome !== 'replayed';
  const [replayed, wrote] = runs.toSorted((a, b) => a.outcome.localeCompare(b.outcome));
  return (
    runs.length === 2 &&
    replayed?.outcome === 'replayed' &&
    replayed.machine === expected.replica &&
    wrote?.outcome === 'wrote' &&
    wrote.machine === expected.writer
  );
}

function wayOf(runs: readonly Run[]): string {
  return runs.map(({ machine, outcome }) => `${outcome} at ${machine}`).join(', ');
}

/**
 * The requests that took more than one replay or forward of the sidecars, and one replay of the
 * app.
 */
function restless({ fleet, expected }: Scene): string[] {
  const { records, decisions } = fleet.ledger;
  const ways = Map.groupBy(decisions, ({ requestId }) => requestId);
  const wrong = records.filter(({ requestId, replays }) => {
    const way = ways.get(requestId) ?? [];
    const ofSidecars = way.filter(({ decision }) => decision === 'replay').length;
    const forwards = way.filter(({ decision }) => decision === 'forward').length;
    const ofApp = expected.has(requestId) ? 1 : 0;
    return ofSidecars > 1 || forwards > 1 || replays > ofSidecars + ofApp;
  });
  return shortened(wrong.map(({ requestId, replays }) => `${requestId}: ${replays} replays`));
}
