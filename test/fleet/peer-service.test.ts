import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { parseResponse, type Claim } from '../../src/fleet/messages.ts';
import { createClaimResolver } from '../../src/fleet/claim-resolver.ts';
import { createPeerService } from '../../src/fleet/peer-service.ts';
import { StoreError, type SessionStore } from '../../src/store/store.ts';
import { servePeers } from '../support/peer-service.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf } from '../support/ids.ts';
import {
  B,
  C,
  createStore,
  listen,
  SELF,
  startDirectory,
  startPeer,
  STATUS,
  TTL_MS,
  type PeerOptions,
  type TestPeer,
} from './support.ts';
import { ownerIn } from '../store/claims.ts';

const KEY = keyOf('one');
const CLAIM: Claim = { generation: 1, origin: 'learned', createdAt: 1_000, ttlMs: 60_000 };

interface PeerResponse {
  readonly status: number;
  readonly text: string;
  readonly allow: string | undefined;
}

/** B, queried by `SELF`. */
async function setUp(t: TestContext, options: PeerOptions = {}) {
  const clock = createTestClock();
  return { clock, peer: await startPeer(t, clock, B, options) };
}

function send(
  { port }: { readonly port: number },
  path: string,
  body: string,
  method = 'POST',
): Promise<PeerResponse> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest({ port, host: '127.0.0.1', path, method }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          text: Buffer.concat(chunks).toString(),
          allow: response.headers.allow,
        }),
      );
    });
    sent.once('error', reject);
    sent.end(body);
  });
}

const queryFrom = (from: string, claim?: Claim): string =>
  JSON.stringify({ from, questions: [{ key: KEY, ...(claim && { claim }) }] });
const announce = (from: string, claim: Claim = CLAIM): string =>
  JSON.stringify({ from, bindings: [{ key: KEY, claim }] });

async function responseOf(peer: TestPeer, body: string, path = '/v1/ask'): Promise<unknown> {
  const { status, text } = await send(peer, path, body);
  assert.equal(status, 200);
  const message = parseResponse(text);
  assert.equal(message?.machine, B);
  return message.answers.get(KEY);
}

function bindTo(peer: TestPeer, machine = B, origin: 'learned' | 'adopted' | 'copied' = 'learned') {
  return peer.store.upsert({ key: KEY, machine, origin, generation: 1, ttlMs: TTL_MS });
}

describe('the peer service', () => {
  it('responds mine for keys that this Machine owns, with their remaining time', async (t) => {
    const { clock, peer } = await setUp(t);
    await bindTo(peer);
    const createdAt = clock.now();
    await clock.advance(5_000);
    const mine = { generation: 1, origin: 'learned', createdAt, ttlMs: TTL_MS - 5_000 };
    assert.deepEqual(await responseOf(peer, queryFrom(SELF)), mine);
  });

  it("responds no for unknown keys, other Machines' keys and expired keys", async (t) => {
    const { clock, peer } = await setUp(t);
    assert.equal(await responseOf(peer, queryFrom(SELF)), 'no');
    await bindTo(peer, C, 'copied');
    assert.equal(await responseOf(peer, queryFrom(SELF)), 'no');
    await peer.store.delete(KEY);
    await bindTo(peer);
    await clock.advance(TTL_MS);
    assert.equal(await responseOf(peer, queryFrom(SELF)), 'no');
  });

  it('responds unknown while it is not ready, whatever its store holds', async (t) => {
    const { peer } = await setUp(t, { isReady: () => false });
    assert.equal(await responseOf(peer, queryFrom(SELF)), 'unknown');
    await bindTo(peer);
    assert.equal(await responseOf(peer, queryFrom(SELF)), 'unknown');
  });

  it('responds unknown when the store returns unknown or fails to release', async (t) => {
    const store = createStore(createTestClock());
    await store.claim({ key: KEY, machine: B, origin: 'adopted', ttlMs: TTL_MS });
    const errors: unknown[] = [];
    const failing: SessionStore = {
      ...store,
      delete: () => Promise.reject(new StoreError('passing', 'busy')),
    };
    const { peer } = await setUp(t, { store: failing, onError: (error) => errors.push(error) });
    assert.equal(await responseOf(peer, queryFrom(SELF, CLAIM)), 'unknown');
    assert.equal(errors.length, 1);
    assert.equal(await ownerIn(store, KEY), B);
    await store.close();
    assert.equal(await responseOf(peer, queryFrom(SELF)), 'unknown');
  });

  it('ignores other paths', async (t) => {
    const clock = createTestClock();
    const directory = await startDirectory(t, clock, B, [{ machine: SELF, port: 1 }]);
    const store = createStore(clock);
    const claimResolver = createClaimResolver({ self: B, store, clock, isReady: () => true });
    const service = createPeerService({
      self: B,
      claimResolver,
      directory,
      status: () => STATUS,
    });
    const server = await listen(t, (request, response) => {
      if (!servePeers(service, request, response)) response.writeHead(418).end();
    });
    for (const path of ['/', '/v1/forward', '/v1/ask/', '/v1/ask?x', '/v2/ask', '/V1/ASK']) {
      assert.equal((await send(server, path, queryFrom(SELF))).status, 418, path);
    }
  });
});

describe('the peer service rejects', () => {
  const rows: [string, number, path: string, body: string, method?: string][] = [
    ['junk', 400, '/v1/ask', '{"from":'],
    ['junk as an announcement', 400, '/v1/announce', 'null'],
    ['a query sent as an announcement', 400, '/v1/announce', queryFrom(SELF)],
    ['nothing', 400, '/v1/ask', ''],
    ['a body over its size limit', 413, '/v1/ask', queryFrom(SELF) + ' '.repeat(65_536)],
    ['a sender outside the fleet', 403, '/v1/ask', queryFrom('zz')],
    ['a sender that claims to be this Machine', 403, '/v1/announce', announce(B)],
    ['an announcement for a Machine outside the fleet', 403, '/v1/announce', announce('zz')],
    ['a GET', 405, '/v1/ask', '', 'GET'],
    ['a PUT', 405, '/v1/announce', announce(SELF), 'PUT'],
  ];
  for (const [name, status, path, body, method] of rows) {
    it(`${name} with ${status}, and changes nothing`, async (t) => {
      const { peer } = await setUp(t);
      await bindTo(peer);
      const response = await send(peer, path, body, method);
      assert.equal(response.status, status);
      assert.equal(response.text, '');
      assert.equal(response.allow, status === 405 ? 'POST' : undefined);
      assert.equal(await ownerIn(peer.store, KEY), B);
    });
  }

  it('every sender that the directory does not list, after it reads the list again for new Machines', async (t) => {
    const clock = createTestClock();
    const directory = await startDirectory(t, clock, B, []);
    let refreshes = 0;
    const refresh = (): Promise<void> => {
      refreshes += 1;
      return Promise.resolve();
    };
    const peer = await startPeer(t, clock, B, { directory: { ...directory, refresh } });
    for (const path of ['/v1/ask', '/v1/announce']) {
      assert.equal((await send(peer, path, announce(SELF))).status, 403);
      assert.equal((await send(peer, path, '', 'GET')).status, 403);
    }
    assert.equal(refreshes, 4);
    assert.equal(await ownerIn(peer.store, KEY), 'absent');
  });

  it("a Machine that sends from another Machine's address", async (t) => {
    const clock = createTestClock();
    const directory = await startDirectory(t, clock, B, [{ machine: SELF, port: 1 }]);
    const isAddressOf = (machine: string): boolean => machine === C;
    const peer = await startPeer(t, clock, B, { directory: { ...directory, isAddressOf } });
    assert.equal((await send(peer, '/v1/announce', announce(SELF))).status, 403);
    assert.equal((await send(peer, '/v1/ask', queryFrom(SELF, CLAIM))).status, 403);
    assert.equal(await ownerIn(peer.store, KEY), 'absent');
  });

  it('an endless body, without buffering it', async (t) => {
    const { peer } = await setUp(t);
    const socket = connect(peer.port, '127.0.0.1');
    t.after(() => socket.destroy());
    socket.on('error', () => undefined);
    socket.write('POST /v1/ask HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n');
    const chunk = `8000\r\n${'x'.repeat(0x8000)}\r\n`;
    const response = new Promise<string>((resolve) =>
      socket.once('data', (data) => resolve(data.toString())),
    );
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    for (let i = 0; i < 4; i += 1) socket.write(chunk);
    assert.match(await response, /^HTTP\/1\.1 413 /);
    await closed;
  });

  it('a request that its peer aborts halfway, and keeps responding', async (t) => {
    const errors: unknown[] = [];
    const { peer } = await setUp(t, { onError: (error) => errors.push(error) });
    const socket = connect(peer.port, '127.0.0.1');
    socket.write('POST /v1/ask HTTP/1.1\r\nhost: b\r\ncontent-length: 100\r\n\r\n{"from"');
    while (peer.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
    socket.destroy();
    assert.equal(await responseOf(peer, queryFrom(SELF)), 'no');
    assert.deepEqual(errors, []);
  });
});

describe('announcements to the peer service', () => {
  it('are stored as copies with the fields that the sender states', async (t) => {
    const { peer } = await setUp(t);
    assert.equal(await responseOf(peer, announce(SELF), '/v1/announce'), undefined);
    const copy = await peer.store.lookup(KEY);
    assert.ok(typeof copy === 'object');
    assert.deepEqual([copy.machine, copy.origin, copy.generation], [SELF, 'copied', 1]);
  });

  it('do not lower a generation', async (t) => {
    const { peer } = await setUp(t);
    const copy = { key: KEY, machine: C, origin: 'copied' as const, ttlMs: TTL_MS };
    await peer.store.upsert({ ...copy, generation: 3 });
    await responseOf(peer, announce(SELF, { ...CLAIM, generation: 2 }), '/v1/announce');
    assert.equal(await ownerIn(peer.store, KEY), C);
  });

  it('are accepted while the Machine is not ready: they do not concern its own bindings', async (t) => {
    const { peer } = await setUp(t, { isReady: () => false });
    await responseOf(peer, announce(SELF), '/v1/announce');
    assert.equal(await ownerIn(peer.store, KEY), SELF);
  });
});

describe('a claim to a key that this Machine owns too', () => {
  const rows: [
    string,
    claim: (clock: TestClock) => Partial<Claim>,
    'adopted' | 'learned',
    string,
  ][] = [
    [
      'is rejected if it is later',
      (clock) => ({ createdAt: clock.now() + 10_000 }),
      'learned',
      'kept',
    ],
    [
      'replaces ours if it is earlier',
      (clock) => ({ createdAt: clock.now() - 10_000 }),
      'learned',
      'released',
    ],
    [
      'is rejected at the same time by the Machine that placement selects for the key',
      (clock) => ({ createdAt: clock.now() }),
      'learned',
      'kept',
    ],
    [
      'replaces an adopted one if it was learned',
      (clock) => ({ createdAt: clock.now() + 10_000 }),
      'adopted',
      'released',
    ],
    [
      'never replaces a learned one if it was adopted',
      () => ({ createdAt: 0, origin: 'adopted' }),
      'learned',
      'kept',
    ],
    [
      'replaces ours if its generation is higher',
      () => ({ generation: 2, origin: 'adopted' }),
      'learned',
      'released',
    ],
  ];
  for (const [name, claimAt, origin, outcome] of rows) {
    for (const path of ['/v1/ask', '/v1/announce']) {
      it(`${name}, at ${path}`, async (t) => {
        const { clock, peer } = await setUp(t);
        await bindTo(peer, B, origin);
        const claim = { ...CLAIM, ...claimAt(clock) };
        const body = path === '/v1/ask' ? queryFrom(SELF, claim) : announce(SELF, claim);
        const response = await responseOf(peer, body, path);
        assert.deepEqual(peer.conflicts, [outcome]);
        assert.equal(await ownerIn(peer.store, KEY), outcome === 'kept' ? B : SELF);
        // The announcer hears of the claim that it has outranked, too.
        const isTold = outcome === 'kept' || path === '/v1/announce';
        assert.equal(typeof response === 'object', isTold);
        if (isTold) assert.partialDeepStrictEqual(response, { origin });
      });
    }
  }

  it('conflicts with no void claim of ours: a query returns no, an announcement is stored', async (t) => {
    const { peer } = await setUp(t, { isVoid: ({ origin }) => origin === 'adopted' });
    await bindTo(peer, B, 'adopted');
    const later = { ...CLAIM, origin: 'adopted', createdAt: Number.MAX_SAFE_INTEGER } as const;
    assert.equal(await responseOf(peer, queryFrom(SELF)), 'no');
    assert.equal(await responseOf(peer, queryFrom(SELF, later)), 'no');
    assert.equal(await ownerIn(peer.store, KEY), B);
    assert.equal(await responseOf(peer, announce(SELF, later), '/v1/announce'), undefined);
    assert.equal(await ownerIn(peer.store, KEY), SELF);
  });

  it('does not conflict when the key belongs to another Machine: a query changes nothing', async (t) => {
    const { peer } = await setUp(t);
    await bindTo(peer, C, 'copied');
    assert.equal(await responseOf(peer, queryFrom(SELF, CLAIM)), 'no');
    assert.deepEqual(peer.conflicts, []);
    assert.equal(await ownerIn(peer.store, KEY), C);
  });
});
