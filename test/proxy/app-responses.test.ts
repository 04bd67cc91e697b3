import type { RequestHead, ResponseHead } from '../../src/protocols/heads.ts';
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Decision } from '../../src/routing/decision.ts';
import { createRequestIdReader } from '../../src/protocols/request-ids.ts';
import { createDiscoverer } from '../../src/protocols/discoveries.ts';
import { sessionKeyOf, type Binding } from '../../src/session.ts';
import { AppResponses } from '../../src/proxy/app-responses.ts';
import type { Bindings } from '../../src/proxy/bindings.ts';
import type { Routed } from '../../src/routing/route.ts';
import { responseWith, get, post, protocolsOf } from '../protocols/heads.ts';
import { createTestClock } from '../support/clock.ts';
import type { MachineId } from '../../src/session.ts';
import { keyOf, machineId } from '../support/ids.ts';

const [SELF, GONE] = [machineId('aa'), machineId('bb')];
const PROTOCOLS = protocolsOf('mcp,mcp-sse,rpc,cookie:sid,socket.io');
const extract = createRequestIdReader(PROTOCOLS, { hints: true });

/** What the store was told to do, each as one line. */
class WrittenDown {
  readonly lines: string[] = [];
  /** What `bindDiscovered` waits for. */
  committed: Promise<void> = Promise.resolve();
  /** Who has the session that is adopted, if not this Machine. */
  winner: MachineId | undefined;
  readonly bindings: Bindings = {
    bindDiscovered: (id) => {
      this.lines.push(`bind ${id}`);
      return this.committed;
    },
    claim: (key, from) => {
      this.lines.push(`claim ${nameOf(key)} from ${from ?? 'nobody'}`);
      return this.committed.then(() => this.winner);
    },
    restore: () => undefined,
    touchIfDue: ({ key }) => this.lines.push(`touch ${nameOf(key)}`),
    endSession: (key) => this.lines.push(`end ${nameOf(key)}`),
    beginClaim: () => assert.fail('a claim begins with its request'),
    isInFlight: () => assert.fail('an answer asks nobody'),
    pendingClaimOf: () => assert.fail('an answer asks nobody'),
    dropCopy: () => assert.fail('an answer disowns nothing'),
    keepAlive: () => assert.fail('only an open stream is held'),
    endWithStream: () => assert.fail('only the end of a stream ends it'),
    stop: () => Promise.resolve(),
  };
}

/** As the test calls it. */
function nameOf(key: string): string {
  return key === keyOf('s') ? 's' : key;
}

interface Told extends WrittenDown {
  readonly answers: AppResponses;
}

function setUp(): Told {
  const written = new WrittenDown();
  const learner = createDiscoverer(PROTOCOLS, {
    hints: true,
    self: SELF,
    clock: createTestClock(),
  });
  return Object.assign(written, { answers: new AppResponses(learner, written.bindings) });
}

const REST = { wholeId: undefined, mayReplay: true };
const LOCAL: Decision = { kind: 'local', why: 'owner', mayClaim: false };
const MAY_ADOPT: Decision = { kind: 'local', why: 'unknown-session', mayClaim: true };
const MAY_TAKE_OVER: Decision = {
  kind: 'local',
  why: 'owner-gone',
  mayClaim: true,
  takeOverFrom: GONE,
};

function routed(head: RequestHead, decision: Decision, isBound: boolean): Routed {
  const ids = extract(head);
  const key = ids.kind === 'found' ? sessionKeyOf(ids.id) : undefined;
  const binding: Binding | undefined =
    key === undefined || !isBound
      ? undefined
      : { key, machine: SELF, origin: 'learned', generation: 1, createdAt: 0, expiresAt: 1 };
  return { decision, ids, key, owner: binding?.machine, binding, ...REST };
}

const SESSION = ['mcp-session-id', 's'];
const CALL = post('/', ...SESSION);
const OK = responseWith(200);

describe('an answer within a session', () => {
  // prettier-ignore
  const rows: readonly {
    readonly claim: string;
    readonly request?: RequestHead;
    readonly decision?: Decision;
    readonly isBound?: boolean;
    readonly response: ResponseHead;
    readonly writes: readonly string[];
  }[] = [
    { claim: 'slides it', isBound: true, response: OK, writes: ['touch s'] },
    { claim: 'does not slide it if Engine.IO does not know it', isBound: true, request: get('/?sid=s'), response: responseWith(400), writes: [] },
    { claim: 'slides it with a 400 of any other protocol', isBound: true, response: responseWith(400), writes: ['touch s'] },
    { claim: 'slides it though the app fails', isBound: true, response: responseWith(500), writes: ['touch s'] },
    { claim: 'slides it with a 304', isBound: true, request: get('/', ...SESSION), response: responseWith(304), writes: ['touch s'] },
    { claim: 'does not slide it with a 404, and does not end it', isBound: true, response: responseWith(404), writes: [] },
    { claim: 'does not end it with a 404 to a DELETE', isBound: true, request: { ...CALL, method: 'DELETE' }, response: responseWith(404), writes: [] },
    { claim: 'ends it with a 2xx to a DELETE', isBound: true, request: { ...CALL, method: 'DELETE' }, response: responseWith(204), writes: ['end s'] },
    { claim: 'slides it with a 405 to a DELETE, as the app lets nobody end it', isBound: true, request: { ...CALL, method: 'DELETE' }, response: responseWith(405), writes: ['touch s'] },
    { claim: 'does not end it with a DELETE where the protocol does not end so', isBound: true, request: { method: 'DELETE', target: '/', rawHeaders: ['x-session-id', 's'] }, response: OK, writes: ['touch s'] },
    { claim: 'ends it with a cookie that expires', isBound: true, request: get('/', 'cookie', 'sid=s'), response: responseWith(200, 'set-cookie', 'sid=; Max-Age=0'), writes: ['end s'] },
    { claim: 'adopts it with a 200 where that is allowed', decision: MAY_ADOPT, response: OK, writes: ['claim s from nobody'] },
    { claim: 'adopts it with a 204', decision: MAY_ADOPT, response: responseWith(204), writes: ['claim s from nobody'] },
    { claim: 'adopts it with a 101', decision: MAY_ADOPT, request: get('/', ...SESSION), response: responseWith(101), writes: ['claim s from nobody'] },
    { claim: 'takes it over from the Machine that is gone', decision: MAY_TAKE_OVER, response: OK, writes: ['claim s from bb'] },
    { claim: 'takes it over though the store has a row of that Machine', decision: MAY_TAKE_OVER, isBound: true, response: OK, writes: ['claim s from bb'] },
    { claim: 'does not adopt it where that is not allowed', decision: LOCAL, response: OK, writes: [] },
    { claim: 'does not adopt what is bound', decision: MAY_ADOPT, isBound: true, response: OK, writes: ['touch s'] },
    { claim: 'does not adopt it with a 302', decision: MAY_ADOPT, response: responseWith(302), writes: [] },
    { claim: 'does not adopt it with a 400', decision: MAY_ADOPT, response: responseWith(400), writes: [] },
    { claim: 'does not adopt it with a 404', decision: MAY_ADOPT, response: responseWith(404), writes: [] },
    { claim: 'does not adopt it with a 500', decision: MAY_ADOPT, response: responseWith(500), writes: [] },
    { claim: 'does not adopt it with the answer to OPTIONS', decision: MAY_ADOPT, request: { ...CALL, method: 'OPTIONS' }, response: OK, writes: [] },
    { claim: 'does not adopt it with the answer to HEAD', decision: MAY_ADOPT, request: { ...CALL, method: 'HEAD' }, response: OK, writes: [] },
    { claim: 'does not adopt it with a DELETE that ends it', decision: MAY_ADOPT, request: { ...CALL, method: 'DELETE' }, response: OK, writes: ['end s'] },
    { claim: 'does not adopt it where the app itself replays', decision: MAY_ADOPT, response: responseWith(200, 'fly-replay', 'instance=cc'), writes: [] },
    { claim: 'does not adopt it where the app itself replays in a body', decision: MAY_ADOPT, response: responseWith(200, 'Content-Type', 'application/vnd.fly.replay+json'), writes: [] },
  ];
  for (const { claim, request = CALL, decision = LOCAL, isBound = false, ...row } of rows) {
    test(claim, async () => {
      const { answers, lines } = setUp();
      await answers.onHead(request, routed(request, decision, isBound), row.response);
      assert.deepEqual(lines, row.writes);
    });
  }

  test('without a session writes nothing and goes out as it is', () => {
    const { answers, lines } = setUp();
    const request = post('/');
    const response = responseWith(200, 'content-type', 'text/plain');
    const revealed = answers.onHead(request, routed(request, LOCAL, false), response);
    assert.ok(!(revealed instanceof Promise));
    assert.equal(revealed.rawHeaders, undefined);
    assert.deepEqual(lines, []);
  });
});

describe('an answer with a new id', () => {
  const MINTED = responseWith(200, 'Mcp-Session-Id', 'new');

  test('goes out once the id is bound, and not before', async () => {
    const told = setUp();
    const commit = Promise.withResolvers<undefined>();
    told.committed = commit.promise;
    const request = post('/');
    const revealed = told.answers.onHead(request, routed(request, LOCAL, false), MINTED);
    assert.ok(revealed instanceof Promise);
    let isOut = false;
    void revealed.then(() => (isOut = true));
    await nextTurn();
    assert.deepEqual([told.lines, isOut], [['bind new'], false]);
    commit.resolve(undefined);
    assert.deepEqual((await revealed).rawHeaders, ['Mcp-Session-Id', 'new~aa']);
  });

  test('waits for every id it has', async () => {
    const { answers, lines } = setUp();
    const request = post('/');
    const response = responseWith(200, ...MINTED.rawHeaders, 'set-cookie', 'sid=cake; Path=/');
    const revealed = await answers.onHead(request, routed(request, LOCAL, false), response);
    assert.deepEqual(lines, ['bind new', 'bind cake']);
    assert.deepEqual(revealed.rawHeaders, [
      ...['Mcp-Session-Id', 'new~aa', 'set-cookie', 'sid=cake~aa; Path=/'],
    ]);
  });

  test('within another session slides that one and learns this one', async () => {
    const { answers, lines } = setUp();
    await answers.onHead(CALL, routed(CALL, LOCAL, true), MINTED);
    assert.deepEqual(lines, ['touch s', 'bind new']);
  });

  test('teaches nothing if the app itself replays', async () => {
    const { answers, lines } = setUp();
    const request = post('/');
    const response = responseWith(200, ...MINTED.rawHeaders, 'fly-replay', 'instance=cc');
    const revealed = await answers.onHead(request, routed(request, LOCAL, false), response);
    assert.deepEqual(lines, []);
    assert.equal(revealed.rawHeaders, undefined);
  });
});

describe('a stream that may teach', () => {
  const STREAM = responseWith(200, 'content-type', 'text/event-stream');

  test('is watched if no session is known yet', async () => {
    const { answers } = setUp();
    const request = get('/sse', 'accept', 'text/event-stream');
    const { inspector } = await answers.onHead(request, routed(request, LOCAL, false), STREAM);
    assert.ok(inspector);
  });

  test('is not watched within an MCP session', async () => {
    const { answers } = setUp();
    const request = get('/mcp', 'accept', 'text/event-stream', ...SESSION);
    const { inspector } = await answers.onHead(request, routed(request, LOCAL, true), STREAM);
    assert.equal(inspector, undefined);
  });

  test('has its id bound before its event goes out', async () => {
    const told = setUp();
    const commit = Promise.withResolvers<undefined>();
    told.committed = commit.promise;
    const [protocol] = PROTOCOLS;
    const ids = extract(CALL);
    assert.ok(ids.kind === 'found' && protocol);
    let isOut = false;
    const out = told.answers.onBody({ id: ids.id, protocol });
    void out.then(() => (isOut = true));
    await nextTurn();
    assert.deepEqual([told.lines, isOut], [['bind s'], false]);
    commit.resolve(undefined);
    await out;
  });
});
