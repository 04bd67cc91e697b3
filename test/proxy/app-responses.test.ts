import type { RequestHead, ResponseHead } from '../../src/protocols/heads.ts';
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Decision } from '../../src/routing/decision.ts';
import { createRequestIdReader } from '../../src/protocols/request-ids.ts';
import { createDiscoverer } from '../../src/protocols/discoveries.ts';
import { sessionKeyOf, type Binding, type MachineId } from '../../src/session.ts';
import { AppResponses } from '../../src/proxy/app-responses.ts';
import type { Bindings } from '../../src/proxy/bindings.ts';
import type { Routed } from '../../src/routing/route.ts';
import { responseWith, get, post, protocolsOf } from '../protocols/heads.ts';
import { createTestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';

const [SELF, GONE] = [machineId('aa'), machineId('bb')];
const PROTOCOLS = protocolsOf('mcp,mcp-sse,rpc,cookie:sid,socket.io');
const extract = createRequestIdReader(PROTOCOLS, { hints: true });

/** A fake `Bindings` that records each call as one line. */
class RecordedBindings {
  readonly lines: string[] = [];
  /** `bindDiscovered` and `claim` wait for this promise. */
  committed: Promise<void> = Promise.resolve();
  /** The owner that `claim` returns, if not this Machine. */
  winner: MachineId | undefined;
  readonly bindings: Bindings = {
    bindDiscovered: (id) => {
      this.lines.push(`bind ${id}`);
      return this.committed;
    },
    claim: (key, from) => {
      this.lines.push(`claim ${nameOf(key)} from ${from ?? 'no owner'}`);
      return this.committed.then(() => this.winner);
    },
    restore: () => undefined,
    touchIfDue: ({ key }) => this.lines.push(`touch ${nameOf(key)}`),
    endSession: (key) => this.lines.push(`end ${nameOf(key)}`),
    beginClaim: () => assert.fail('a claim begins with its request'),
    isInFlight: () => assert.fail('a response asks no peer'),
    pendingClaimOf: () => assert.fail('a response asks no peer'),
    dropCopy: () => assert.fail('a response drops no copy'),
    keepAlive: () => assert.fail('only an open stream keeps a session alive'),
    endWithStream: () => assert.fail('only the end of a stream calls this'),
    stop: () => Promise.resolve(),
  };
}

/** The short name of the session in this test. */
function nameOf(key: string): string {
  return key === keyOf('s') ? 's' : key;
}

interface SetUp extends RecordedBindings {
  readonly responses: AppResponses;
}

function setUp(): SetUp {
  const recordedBindings = new RecordedBindings();
  const discoverer = createDiscoverer(PROTOCOLS, {
    hints: true,
    self: SELF,
    clock: createTestClock(),
    createId: () => 'token',
  });
  return Object.assign(recordedBindings, {
    responses: new AppResponses(discoverer, recordedBindings.bindings),
  });
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

describe('a response within a session', () => {
  // prettier-ignore
  const rows: readonly {
    readonly claim: string;
    readonly request?: RequestHead;
    readonly decision?: Decision;
    readonly isBound?: boolean;
    readonly response: ResponseHead;
    readonly writes: readonly string[];
  }[] = [
    { claim: 'extends its expiry', isBound: true, response: OK, writes: ['touch s'] },
    { claim: 'does not extend it with the 400 of Engine.IO for an unknown id', isBound: true, request: get('/?sid=s'), response: responseWith(400), writes: [] },
    { claim: 'extends it with a 400 of any other protocol', isBound: true, response: responseWith(400), writes: ['touch s'] },
    { claim: 'extends it with a 500', isBound: true, response: responseWith(500), writes: ['touch s'] },
    { claim: 'extends it with a 304', isBound: true, request: get('/', ...SESSION), response: responseWith(304), writes: ['touch s'] },
    { claim: 'neither extends nor ends it with a 404', isBound: true, response: responseWith(404), writes: [] },
    { claim: 'does not end it with a 404 to a DELETE', isBound: true, request: { ...CALL, method: 'DELETE' }, response: responseWith(404), writes: [] },
    { claim: 'ends it with a 2xx to a DELETE', isBound: true, request: { ...CALL, method: 'DELETE' }, response: responseWith(204), writes: ['end s'] },
    { claim: 'extends it with a 405 to a DELETE, because the app does not allow clients to end it', isBound: true, request: { ...CALL, method: 'DELETE' }, response: responseWith(405), writes: ['touch s'] },
    { claim: 'does not end it with a DELETE where the protocol has no such request', isBound: true, request: { method: 'DELETE', target: '/', rawHeaders: ['x-session-id', 's'] }, response: OK, writes: ['touch s'] },
    { claim: 'ends it with an expired cookie', isBound: true, request: get('/', 'cookie', 'sid=s'), response: responseWith(200, 'set-cookie', 'sid=; Max-Age=0'), writes: ['end s'] },
    { claim: 'claims it with a 200 where the decision allows it', decision: MAY_ADOPT, response: OK, writes: ['claim s from no owner'] },
    { claim: 'claims it with a 204', decision: MAY_ADOPT, response: responseWith(204), writes: ['claim s from no owner'] },
    { claim: 'claims it with a 101', decision: MAY_ADOPT, request: get('/', ...SESSION), response: responseWith(101), writes: ['claim s from no owner'] },
    { claim: 'takes it over from the Machine that is gone', decision: MAY_TAKE_OVER, response: OK, writes: ['claim s from bb'] },
    { claim: 'takes it over even if the store has a row of that Machine', decision: MAY_TAKE_OVER, isBound: true, response: OK, writes: ['claim s from bb'] },
    { claim: 'does not claim it where the decision forbids it', decision: LOCAL, response: OK, writes: [] },
    { claim: 'does not claim a bound session', decision: MAY_ADOPT, isBound: true, response: OK, writes: ['touch s'] },
    { claim: 'does not claim it with a 302', decision: MAY_ADOPT, response: responseWith(302), writes: [] },
    { claim: 'does not claim it with a 400', decision: MAY_ADOPT, response: responseWith(400), writes: [] },
    { claim: 'does not claim it with a 404', decision: MAY_ADOPT, response: responseWith(404), writes: [] },
    { claim: 'does not claim it with a 500', decision: MAY_ADOPT, response: responseWith(500), writes: [] },
    { claim: 'does not claim it with the response to OPTIONS', decision: MAY_ADOPT, request: { ...CALL, method: 'OPTIONS' }, response: OK, writes: [] },
    { claim: 'does not claim it with the response to HEAD', decision: MAY_ADOPT, request: { ...CALL, method: 'HEAD' }, response: OK, writes: [] },
    { claim: 'does not claim it with a DELETE that ends it', decision: MAY_ADOPT, request: { ...CALL, method: 'DELETE' }, response: OK, writes: ['end s'] },
    { claim: 'does not claim it where the app itself replays', decision: MAY_ADOPT, response: responseWith(200, 'fly-replay', 'instance=cc'), writes: [] },
    { claim: 'does not claim it where the app itself replays in a body', decision: MAY_ADOPT, response: responseWith(200, 'Content-Type', 'application/vnd.fly.replay+json'), writes: [] },
  ];
  for (const { claim, request = CALL, decision = LOCAL, isBound = false, ...row } of rows) {
    test(claim, async () => {
      const { responses, lines } = setUp();
      await responses.onHead(request, routed(request, decision, isBound), row.response);
      assert.deepEqual(lines, row.writes);
    });
  }

  test('without a session writes nothing and reaches the client unchanged', () => {
    const { responses, lines } = setUp();
    const request = post('/');
    const response = responseWith(200, 'content-type', 'text/plain');
    const revealed = responses.onHead(request, routed(request, LOCAL, false), response);
    assert.ok(!(revealed instanceof Promise));
    assert.equal(revealed.rawHeaders, undefined);
    assert.deepEqual(lines, []);
  });
});

describe('a response with a new id', () => {
  const MINTED = responseWith(200, 'Mcp-Session-Id', 'new');

  test('waits until the id is bound', async () => {
    const recorded = setUp();
    const commit = Promise.withResolvers<undefined>();
    recorded.committed = commit.promise;
    const request = post('/');
    const revealed = recorded.responses.onHead(request, routed(request, LOCAL, false), MINTED);
    assert.ok(revealed instanceof Promise);
    let isSent = false;
    void revealed.then(() => (isSent = true));
    await nextTurn();
    assert.deepEqual([recorded.lines, isSent], [['bind new'], false]);
    commit.resolve(undefined);
    assert.deepEqual((await revealed).rawHeaders, ['Mcp-Session-Id', 'new~aa']);
  });

  test('waits until all its ids are bound', async () => {
    const { responses, lines } = setUp();
    const request = post('/');
    const response = responseWith(200, ...MINTED.rawHeaders, 'set-cookie', 'sid=cake; Path=/');
    const revealed = await responses.onHead(request, routed(request, LOCAL, false), response);
    assert.deepEqual(lines, ['bind new', 'bind cake']);
    assert.deepEqual(revealed.rawHeaders, [
      ...['Mcp-Session-Id', 'new~aa', 'set-cookie', 'sid=cake~aa; Path=/'],
    ]);
  });

  test('within another session extends that one and binds this one', async () => {
    const { responses, lines } = setUp();
    await responses.onHead(CALL, routed(CALL, LOCAL, true), MINTED);
    assert.deepEqual(lines, ['touch s', 'bind new']);
  });

  test('binds nothing if the app itself replays', async () => {
    const { responses, lines } = setUp();
    const request = post('/');
    const response = responseWith(200, ...MINTED.rawHeaders, 'fly-replay', 'instance=cc');
    const revealed = await responses.onHead(request, routed(request, LOCAL, false), response);
    assert.deepEqual(lines, []);
    assert.equal(revealed.rawHeaders, undefined);
  });
});

describe('a stream that may reveal an id', () => {
  const STREAM = responseWith(200, 'content-type', 'text/event-stream');

  test('is inspected if no session is known yet', async () => {
    const { responses } = setUp();
    const request = get('/sse', 'accept', 'text/event-stream');
    const { inspector } = await responses.onHead(request, routed(request, LOCAL, false), STREAM);
    assert.ok(inspector);
  });

  test('is not inspected within an MCP session', async () => {
    const { responses } = setUp();
    const request = get('/mcp', 'accept', 'text/event-stream', ...SESSION);
    const { inspector } = await responses.onHead(request, routed(request, LOCAL, true), STREAM);
    assert.equal(inspector, undefined);
  });

  test('waits until its id is bound before its event is sent', async () => {
    const recorded = setUp();
    const commit = Promise.withResolvers<undefined>();
    recorded.committed = commit.promise;
    const [protocol] = PROTOCOLS;
    const ids = extract(CALL);
    assert.ok(ids.kind === 'found' && protocol);
    let isSent = false;
    const out = recorded.responses.onBody([{ id: ids.id, protocol }]);
    void out.then(() => (isSent = true));
    await nextTurn();
    assert.deepEqual([recorded.lines, isSent], [['bind s'], false]);
    commit.resolve(undefined);
    await out;
  });
});
