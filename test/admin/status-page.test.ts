/** The status page as the admin listener sends it; in a browser: status-page.e2e.test.ts. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import type { Status } from '../../src/admin/status.ts';
import { parseTypedSessionId, sessionKeyOf } from '../../src/session.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import { createTestClock } from '../support/clock.ts';
import { machineId } from '../support/ids.ts';
import { AUTHORIZED, openAdmin, STATUS, TOKEN } from './support.ts';

const HOSTILE = `</script></style><img src=x onerror="alert('1')">&amp;`;

/** Every text in a value is the hostile one. */
function hostile<Value>(value: Value): Value {
  if (typeof value === 'string') return HOSTILE as Value;
  if (Array.isArray(value)) return value.map(hostile) as Value;
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, each]) => [name, hostile(each)]),
  ) as Value;
}

const EVENT = {
  at: 0,
  level: 'warn',
  message: 'x',
  count: 2,
  about: { peer: 'x' },
  detail: 'x',
} as const;
const SAMPLE = [{ values: ['local', 'owner'], count: 3 }];

/** With a value in every place. */
const FULL: Status = {
  ...STATUS,
  ready: false,
  reason: 'x',
  store: { kind: 'x', state: 'degraded', failing: 'all', code: 'fatal', reason: 'x', forMs: 1 },
  fleet: { kind: 'failing', reason: 'x' },
  upstream: { state: 'down', reason: 'x', forMs: 1 },
  ...{ app: 'x', region: 'x', processGroup: 'x', notAccepting: 'full', missingPresets: ['x'] },
  requests: {
    ...{ open: 1, openStreams: SAMPLE, perSecond: 1, decisions: SAMPLE, ofClients: SAMPLE },
    ...{ replaysFailed: SAMPLE, lost: SAMPLE, unavailable: SAMPLE },
  },
  sessions: { byMachine: { x: 1 }, limit: 1, conflicts: 1, released: SAMPLE },
  machines: [
    {
      ...{ machine: machineId('b'), region: 'x', state: 'unresponsive', why: 'x' },
      ...{ takesSessions: true, address: 'x' },
    },
  ],
  protocols: { 'path:x': 1 },
  events: { ofSessions: [EVENT], others: [EVENT] },
  detail: { upstream: 'x', store: 'x' },
};

describe('the status page', () => {
  test('escapes every text that it shows', async (t) => {
    const decisions = { ...FULL.requests, decisions: [{ values: ['local', HOSTILE], count: 1 }] };
    const status = { ...hostile(FULL), requests: { ...hostile(FULL.requests), ...decisions } };
    // What decides how an event looks, and what the keys of a record are, may come from outside too.
    const protocols = { [`path:${HOSTILE}`]: 1, [HOSTILE]: 1 };
    const about = { [HOSTILE]: HOSTILE };
    const events = { ofSessions: [{ ...hostile(EVENT), about }], others: [hostile(EVENT)] };
    const { url } = await openAdmin(t, {
      status: () => Promise.resolve({ ...status, protocols, events }),
    });
    const page = await (await fetch(`${url}/`)).text();
    assert.ok(page.split('&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;').length > 20);
    assert.doesNotMatch(page, /<img/);
    assert.equal(page.split('</script>').length, 2);
    assert.equal(page.split('</style>').length, 2);
  });

  test('forbids everything but its own style and script, which the policy names by their hashes', async (t) => {
    const { url } = await openAdmin(t);
    const response = await fetch(`${url}/`);
    const page = await response.text();
    const hashOf = (tag: string): string => {
      const [, content = ''] = new RegExp(`<${tag}>([^]*)</${tag}>`).exec(page) ?? [];
      return createHash('sha256').update(content).digest('base64');
    };
    assert.equal(
      response.headers.get('content-security-policy'),
      `default-src 'none'; script-src 'sha256-${hashOf('script')}'; style-src 'sha256-${hashOf('style')}'; ` +
        "img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    );
    assert.doesNotMatch(page, /\s(?:on[a-z]+|style)=|(?:src|href)="(?!data:|\/)/);
    assert.equal(response.headers.get('content-type'), 'text/html; charset=utf-8');
    assert.equal(response.headers.get('cache-control'), 'no-store');
  });

  test('asks for what the token of the request opens', async (t) => {
    const asked: boolean[] = [];
    const { url } = await openAdmin(t, {
      status: (isDetailed) => {
        asked.push(isDetailed);
        return Promise.resolve(STATUS);
      },
    });
    const wrong = { authorization: 'Bearer another-token-than-that' };
    const accesses: (string | undefined)[] = [];
    for (const headers of [{}, AUTHORIZED, wrong]) {
      const response = await fetch(`${url}/`, { headers });
      assert.equal(response.status, 200);
      accesses.push(/data-access="([a-z]+)"/.exec(await response.text())?.[1]);
      await fetch(`${url}/status`, { headers });
    }
    assert.deepEqual(accesses, ['open', 'full', 'denied']);
    assert.deepEqual(asked, [false, false, true, true, false, false]);
  });

  test('has no form where there is no ADMIN_TOKEN', async (t) => {
    const { url } = await openAdmin(t, { token: undefined });
    const page = await (await fetch(`${url}/`, { headers: AUTHORIZED })).text();
    assert.doesNotMatch(page, /<form|<input/);
    assert.match(page, /Needs the setting\s+ADMIN_TOKEN/);
  });

  test('shows a hundred Machines of a large fleet, and says how many there are', async (t) => {
    const machines = Array.from({ length: 5_000 }, (_, i) => ({
      ...{ machine: machineId(`m${i}`), region: undefined, state: 'running' as const, why: 'x' },
      ...{ takesSessions: true, address: undefined },
    }));
    const { url } = await openAdmin(t, { status: () => Promise.resolve({ ...STATUS, machines }) });
    const page = await (await fetch(`${url}/`)).text();
    assert.ok(page.length < 200_000, `${page.length} characters`);
    assert.match(page, /4,900 more are in the JSON/);
  });

  test('that fails gets 500, and the next request is served', async (t) => {
    let isFailing = true;
    const { url, log } = await openAdmin(t, {
      status: () => (isFailing ? Promise.reject(new Error('inside')) : Promise.resolve(STATUS)),
    });
    const failed = await fetch(`${url}/`);
    assert.deepEqual([failed.status, await failed.text()], [500, 'failed\n']);
    assert.deepEqual(log.messages('error'), ['admin request failed']);
    isFailing = false;
    assert.equal((await fetch(`${url}/`)).status, 200);
  });
});

describe('the form without JavaScript', () => {
  const [SELF, ID] = [machineId('aa'), 'a secret id ✓'];

  async function open(t: Parameters<typeof openAdmin>[0]) {
    const clock = createTestClock();
    const store = createMemoryStore({ clock, limits: { maxSessions: 10, maxAgeMs: 0 } });
    const id = parseTypedSessionId(ID);
    assert.ok(id);
    const key = sessionKeyOf(id);
    await store.claim({ key, machine: SELF, origin: 'learned', ttlMs: 60_000 });
    const { url, log } = await openAdmin(t, { store, clock });
    return {
      ...{ key, log },
      send: async (fields: Record<string, string>) => {
        const response = await fetch(`${url}/`, {
          method: 'POST',
          body: new URLSearchParams(fields),
        });
        const page = await response.text();
        const [, result = ''] = /<p class="result"[^>]*>([^<]*)</.exec(page) ?? [];
        return { status: response.status, page, result: result.trim() };
      },
    };
  }

  for (const [name, id] of [
    ['an id', ID],
    ['an id with its owner hint', `${ID}~${SELF}`],
    ['an id among blanks', ` ${ID} `],
  ] as const) {
    test(`finds the session of ${name}, and shows the beginning of its key only`, async (t) => {
      const { send, key } = await open(t);
      const { page, result } = await send({ token: TOKEN, id });
      assert.equal(
        result,
        `Session ${key.slice(0, 8)}… belongs to Machine aa (learned, generation 1), is 0s old and expires in 1m unless it is used.`,
      );
      assert.ok(!page.includes('a secret id') && !page.includes(TOKEN) && !page.includes(key));
    });
  }

  test('says that there is no such session', async (t) => {
    const { send } = await open(t);
    const { result } = await send({ token: TOKEN, id: 'another' });
    assert.match(result, /^No such session/);
  });

  test('says that the token is wrong, and logs that', async (t) => {
    const { send, log } = await open(t);
    const { result, page } = await send({ token: 'another-token-than-that', id: ID });
    assert.equal(result, 'The token is wrong.');
    assert.match(page, /data-access="denied"/);
    assert.deepEqual(log.messages('warn'), ['admin request without the right ADMIN_TOKEN']);
  });

  test('that is too long gets 413', async (t) => {
    const { send } = await open(t);
    const { status } = await send({ token: TOKEN, id: 'x'.repeat(200_000) });
    assert.equal(status, 413);
  });

  test('says that the store fails', async (t) => {
    const store = { lookup: () => 'unknown' } as unknown as ReturnType<typeof createMemoryStore>;
    const { url } = await openAdmin(t, { store });
    const body = new URLSearchParams({ token: TOKEN, id: ID });
    const page = await (await fetch(`${url}/`, { method: 'POST', body })).text();
    assert.match(page, /The session store fails: try again\./);
  });
});
