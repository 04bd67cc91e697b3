/**
 * During a rolling deploy sidecars of two versions run side by side. One test Machine acts as a
 * sidecar from before replays were marked: it reports no protocol version, knows two messages,
 * responds 404 to all others, and its replays carry no `state`.
 */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { z } from 'zod';
import type { SessionKey } from '../../src/session.ts';
import { parseReplay } from '../../src/fly.ts';
import { until as untilNothingIsMissing } from '../e2e/support/until.ts';
import { openFleet, type TestMachine } from '../support/fleet.ts';
import { keyOf } from '../support/ids.ts';
import { serve, serveApp } from '../support/sidecar.ts';

const OLD = 'old';
/** How the edge handles `fly-replay: instance=...;timeout=10s;fallback=prefer_self`. */
const replayedBy = (machine: string): Record<string, string> => ({
  'fly-replay-src': `instance=${machine};region=iad;t=1780000000000000`,
});
const CLIENT_IDS = Array.from({ length: 20 }, (_, index) => `room-${index}`);

/** Responses that the old version understands; it drops them all if one is different. */
const Claim = z.object({
  generation: z.number().int().min(1),
  origin: z.enum(['learned', 'adopted']),
  createdAt: z.number().int().min(0),
  ttlMs: z.number().int().min(1),
});
const OldResponse = z.object({
  machine: z.string(),
  answers: z.record(z.string(), z.union([z.literal('no'), z.literal('unknown'), Claim])),
});

interface OldSidecar {
  /** The sessions of its app. */
  readonly owned: Set<SessionKey>;
  /** Messages that it received and does not know. */
  readonly unknownPaths: string[];
}

interface Scene {
  readonly m1: TestMachine;
  readonly m2: TestMachine;
  readonly old: OldSidecar;
  /** A request that an app has received and has not responded to yet. */
  readonly slow: { readonly arrived: Promise<void>; release(): void };
}

describe('beside an old sidecar', () => {
  test('forwards its replayed request to the owner and does not replay it again', async (t) => {
    const { m1, m2 } = await startScene(t);
    const session = await openSession(m2);
    const response = await call(m1, { 'mcp-session-id': session, ...replayedBy(OLD) });
    assert.deepEqual(await outcomeOf(response), { replayTo: undefined, status: 200, app: 'm2' });
  });

  test('treats the unmarked replay of a new sidecar as a replay of its app', async (t) => {
    const { m1, m2 } = await startScene(t);
    const session = await openSession(m2);
    const headers = { 'mcp-session-id': session, ...replayedBy('m2') };
    // Sidecars report their version to each other periodically.
    await untilNothingIsMissing(async () => {
      const { app = 'nobody' } = await outcomeOf(await call(m1, headers));
      return app === 'm1' ? [] : [`${app} has served it`];
    }, 30_000);
    const next = await call(m1, { 'mcp-session-id': session });
    assert.equal((await outcomeOf(next)).replayTo, 'm2');
  });

  test('replays its sessions to it, and forwards those that cannot be replayed', async (t) => {
    const { m1, old } = await startScene(t);
    old.owned.add(keyOf('of-old'));
    await assertReaches(m1, 'of-old');
  });

  test('does not treat it as unresponsive because it does not know a message', async (t) => {
    const { m1, old } = await startScene(t);
    await untilNothingIsMissing(
      () => (old.unknownPaths.length > 1 ? [] : ['a message that it does not know']),
      30_000,
    );
    old.owned.add(keyOf('of-old'));
    await assertReaches(m1, 'of-old');
  });

  test('serves client-minted ids that it replayed, permanently', async (t) => {
    const scene = await startScene(t);
    for (const id of CLIENT_IDS) {
      const headers = { 'x-session-id': id };
      const replayed = await outcomeOf(await call(scene.m1, { ...headers, ...replayedBy(OLD) }));
      assert.deepEqual([replayed.status, replayed.replayTo], [200, undefined]);
      assert.equal(await servedBy(scene, scene.m2, headers), replayed.app);
      assert.equal(await servedBy(scene, scene.m1, headers), replayed.app);
    }
  });

  test('serves a client-minted id on one Machine, wherever it arrives first', async (t) => {
    const scene = await startScene(t);
    for (const id of CLIENT_IDS) {
      const headers = { 'x-session-id': id };
      const first = await servedBy(scene, scene.m1, headers);
      assert.equal(await servedBy(scene, scene.m2, headers), first);
    }
  });

  test('can read each response to its queries', async (t) => {
    const { m1, m2, slow } = await startScene(t);
    const session = await openSession(m1);
    const headers = { 'x-session-id': 'pending', ...replayedBy(OLD) };
    const pending = fetch(`${m1.url}/slow`, { headers });
    await slow.arrived;
    const keys = [session, 'pending', 'nobody-knows'].map(keyOf);
    for (const machine of [m1, m2]) {
      const { answers } = await queryAsOld(machine, keys);
      assert.deepEqual(Object.keys(answers).sort(), keys.toSorted());
      assert.equal(typeof answers[keyOf(session)], machine === m1 ? 'object' : 'string');
      assert.equal(answers[keyOf('nobody-knows')], 'no');
    }
    slow.release();
    assert.equal((await outcomeOf(await pending)).status, 200);
  });
});

async function startScene(t: TestContext): Promise<Scene> {
  const fleet = await openFleet(t, 'm1', 'm2', OLD);
  const old: OldSidecar = { owned: new Set(), unknownPaths: [] };
  const port = await serve(
    t,
    createServer((request, response) => {
      respondAsOld(old, request, response).catch(() => response.destroy());
    }),
  );
  fleet.lines.get(OLD)?.leadTo(port);
  const env = { SESSION_ID_HINTS: 'false', SESSION_PROTOCOLS: 'mcp,rpc' };
  const arrival = Promise.withResolvers<undefined>();
  const release = Promise.withResolvers<undefined>();
  const start = async (id: string): Promise<TestMachine> => {
    let minted = 0;
    const port = await serveApp(t, (request, response) => {
      request.resume();
      if (request.url === '/open') {
        minted += 1;
        response.setHeader('mcp-session-id', `${id}-${minted}`);
      }
      if (request.url !== '/slow') {
        response.end(id);
        return;
      }
      arrival.resolve(undefined);
      void release.promise.then(() => response.end(id));
    });
    return fleet.start(id, port, env);
  };
  const slow = { arrived: arrival.promise, release: () => release.resolve(undefined) };
  return { m1: await start('m1'), m2: await start('m2'), old, slow };
}

/** As in src/fleet and src/proxy before replays were marked. */
async function respondAsOld(
  { owned, unknownPaths }: OldSidecar,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  if (request.url === '/v1/forward') {
    response.end(OLD);
  } else if (request.url === '/v1/ask' || request.url === '/v1/announce') {
    const { questions = [] } = JSON.parse(text) as { questions?: { key: SessionKey }[] };
    const claim = { generation: 1, origin: 'learned', createdAt: 1_780_000_000_000, ttlMs: 60_000 };
    const answers = questions.map(({ key }) => [key, owned.has(key) ? claim : 'no']);
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ machine: OLD, answers: Object.fromEntries(answers) as object }));
  } else {
    unknownPaths.push(request.url ?? '');
    response.writeHead(404, { connection: 'close', 'content-length': 0 }).end();
  }
}

async function openSession(machine: TestMachine): Promise<string> {
  const opened = await fetch(`${machine.url}/open`, { method: 'POST' });
  await opened.body?.cancel();
  return opened.headers.get('mcp-session-id') ?? '';
}

function call(machine: TestMachine, headers: Record<string, string>): Promise<Response> {
  return fetch(`${machine.url}/call`, { headers, redirect: 'manual' });
}

interface Outcome {
  readonly status: number;
  /** Undefined: not replayed. */
  readonly replayTo: string | undefined;
  /** The app that served the request. */
  readonly app: string | undefined;
}

async function outcomeOf(response: Response): Promise<Outcome> {
  const text = await response.text();
  const replayTo = parseReplay(response.headers.get('fly-replay') ?? '')?.instance;
  const isServed = response.status === 200 && replayTo === undefined;
  return { status: response.status, replayTo, app: isServed ? text : undefined };
}

/** The Machine that serves the request when its replays are followed as the edge does. */
async function servedBy(
  { m1, m2, old }: Scene,
  first: TestMachine,
  headers: Record<string, string>,
): Promise<string | undefined> {
  const response = await call(first, headers);
  const { app, replayTo } = await outcomeOf(response);
  if (replayTo === undefined) return app;
  if (replayTo === OLD) {
    // Its app accepts every client-minted id.
    old.owned.add(keyOf(headers['x-session-id'] ?? ''));
    return OLD;
  }
  const state = parseReplay(response.headers.get('fly-replay') ?? '')?.state;
  const source = `instance=${first.id};region=iad;t=1${state === undefined ? '' : `;state=${state}`}`;
  const target = replayTo === m1.id ? m1 : m2;
  const replayed = await call(target, { ...headers, 'fly-replay-src': source });
  return (await outcomeOf(replayed)).app;
}

async function assertReaches(machine: TestMachine, session: string): Promise<void> {
  const headers = { 'mcp-session-id': session };
  const replayed = await outcomeOf(await call(machine, headers));
  assert.equal(replayed.replayTo, OLD);
  // Its length is unknown, so it can't be replayed.
  const body = new Blob(['x'.repeat(10)]).stream();
  const forwarded = await fetch(`${machine.url}/call`, {
    ...{ method: 'POST', duplex: 'half', headers, body },
  });
  assert.deepEqual([forwarded.status, await forwarded.text()], [200, OLD]);
}

async function queryAsOld(
  { sidecar }: TestMachine,
  keys: readonly SessionKey[],
): Promise<z.infer<typeof OldResponse>> {
  const response = await fetch(`http://127.0.0.1:${sidecar.ports.peer}/v1/ask`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ from: OLD, questions: keys.map((key) => ({ key })) }),
  });
  assert.equal(response.status, 200);
  return OldResponse.parse(await response.json());
}
