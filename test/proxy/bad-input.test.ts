/**
 * Invalid client input over raw sockets: each case returns 400 or counts as a request without a
 * session, and no text of the client gets into our own headers.
 */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { sessionKeyOf, parseSessionId, parseMachineId } from '../../src/session.ts';
import { openClient } from '../support/raw.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

interface Outcome {
  /** Status codes of the responses, in order. */
  readonly statuses: readonly string[];
  readonly text: string;
  /** Targets of the requests that reached the app. */
  readonly targets: readonly string[];
  readonly sessions: readonly (string | undefined)[];
}

/** Sends a text whose last request, if it is reached, closes the connection. */
async function sendRaw(
  t: TestContext,
  raw: string,
  env = { FLEET: 'm2@127.0.0.1:9' },
): Promise<Outcome> {
  const targets: string[] = [];
  const sessions: (string | undefined)[] = [];
  const app = await serveApp(t, (req, res) => {
    targets.push(req.url ?? '');
    sessions.push(req.headersDistinct['mcp-session-id']?.join('|'));
    req.resume();
    req.on('end', () => res.end('ok'));
  });
  const { ports } = await startTestSidecar(t, app, env);
  const client = await openClient(t, ports.public);
  client.send(raw);
  const text = await client.untilClosed();
  const statuses = [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => status ?? '');
  return { statuses, text, targets, sessions };
}

const LAST = 'GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';
const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n';

describe('returns 400, and the app receives nothing, for', () => {
  const rows: readonly (readonly [name: string, raw: string])[] = [
    [
      'CL with TE',
      `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${SMUGGLED}`,
    ],
    [
      'TE with CL',
      `POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n${SMUGGLED}`,
    ],
    [
      'two lengths',
      `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 38\r\n\r\n${SMUGGLED}`,
    ],
    [
      'the same length twice',
      `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc`,
    ],
    ['a list of lengths', `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc`],
    ['a length with a sign', `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc`],
    ['a length in hex', `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc`],
    [
      'a coding other than chunked',
      `POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
    ],
    [
      'chunked twice',
      `POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n`,
    ],
    [
      'a coding in HTTP/1.0',
      `POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${SMUGGLED}`,
    ],
    [
      'a space before the colon',
      `POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 38\r\n\r\n${SMUGGLED}`,
    ],
    ['an obs-fold', `GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n`],
    [
      'a folded coding',
      `POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n`,
    ],
    ['a bare LF after a header', `GET / HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n`],
    ['a bare LF after the request line', `GET / HTTP/1.1\nHost: a\r\n\r\n`],
    ['a bare CR in a value', `GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rX-B: c\r\n\r\n`],
    ['a NUL in a value', `GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n`],
    ['a NUL in a name', `GET / HTTP/1.1\r\nHost: a\r\nX\0A: b\r\n\r\n`],
    ['a header without a name', `GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n`],
    ['no Host', `GET / HTTP/1.1\r\nX-A: b\r\n\r\n`],
    ['two Hosts', `GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n`],
    ['a Host with a path', `GET / HTTP/1.1\r\nHost: a/b\r\n\r\n`],
    ['a Host with a user', `GET / HTTP/1.1\r\nHost: a@b\r\n\r\n`],
    ['a Host list', `GET / HTTP/1.1\r\nHost: a, b\r\n\r\n`],
    [
      'a chunk size with a sign',
      `POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n`,
    ],
    ['another host in the target', `GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n`],
    ['a target that is not a path', `GET * HTTP/1.1\r\nHost: a\r\n\r\n`],
    ['bytes that are not HTTP', `\x16\x03\x01\x02\x00\x01\x00\r\n\r\n`],
  ];
  for (const [name, raw] of rows) {
    test(name, async (t) => {
      const { statuses, targets } = await sendRaw(t, raw);
      assert.equal(statuses[0], '400');
      assert.ok(!targets.includes('/smuggled'));
      assert.deepEqual(name.startsWith('a chunk size') ? [] : targets, []);
    });
  }

  for (const [name, raw] of [
    [
      'two session ids',
      `GET / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: x\r\nMcp-Session-Id: y\r\nConnection: close\r\n\r\n`,
    ],
    [
      'two session ids in the query',
      `GET /?session_id=x&session_id=y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`,
    ],
    [
      'one id with hints of two Machines',
      `GET / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: x~m1\r\nMcp-Session-Id: x~m2\r\nConnection: close\r\n\r\n`,
    ],
  ] as const) {
    test(`${name} of listed protocols`, async (t) => {
      const env = { FLEET: 'm2@127.0.0.1:9', SESSION_PROTOCOLS: 'mcp,mcp-sse,rpc' };
      const { statuses, targets } = await sendRaw(t, raw, env);
      assert.deepEqual(statuses, ['400']);
      assert.deepEqual(targets, []);
    });
  }

  test('the preface of HTTP/2, with 505', async (t) => {
    const { statuses, targets } = await sendRaw(t, `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`);
    assert.deepEqual(statuses, ['505']);
    assert.deepEqual(targets, []);
  });

  test('headers over 32 KB, with 431', async (t) => {
    const raw = `GET / HTTP/1.1\r\nHost: a\r\nX-A: ${'b'.repeat(40_000)}\r\n\r\n`;
    const { statuses, targets } = await sendRaw(t, raw);
    assert.deepEqual(statuses, ['431']);
    assert.deepEqual(targets, []);
  });
});

describe('counts as a request without a session, and passes through unchanged:', () => {
  const rows: readonly (readonly [name: string, header: string])[] = [
    ['an empty id', ''],
    ['an id with a tab', 'a\tb'],
  ];
  for (const [name, id] of rows) {
    test(name, async (t) => {
      const raw = `GET / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: ${id}\r\nConnection: close\r\n\r\n`;
      const { statuses, sessions, text } = await sendRaw(t, raw);
      assert.deepEqual(statuses, ['200']);
      assert.deepEqual(sessions, [id]);
      assert.doesNotMatch(text, /fly-replay/i);
    });
  }

  test('an id with an encoded line break in the query', async (t) => {
    const raw = 'GET /?session_id=a%0d%0aX:1~m2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';
    const { statuses, text, targets } = await sendRaw(t, raw);
    assert.deepEqual(statuses, ['200']);
    assert.deepEqual(targets, ['/?session_id=a%0d%0aX:1~m2']);
    assert.doesNotMatch(text, /fly-replay/i);
  });
});

describe('an id may be anything that a header holds, and its hint counts:', () => {
  for (const [name, id] of [
    ['of 20,000 bytes', 'x'.repeat(20_000)],
    ['with a space', 'a b'],
    ['with a byte over 0x7e', 'a\xfcb'],
    ['a list', 'a, b'],
  ] as const) {
    test(name, async (t) => {
      const raw = `GET / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: ${id}~m3\r\nConnection: close\r\n\r\n`;
      const { statuses, text, targets } = await sendRaw(t, raw);
      assert.deepEqual(statuses, ['307']);
      assert.deepEqual(targets, []);
      assert.match(text, /^fly-replay: instance=m3;/m);
    });
  }
});

describe('a forged hint', () => {
  for (const [name, hint] of [
    ['with a fly-replay field', 'm2;fallback=x'],
    ['in capitals', 'M2'],
    ['of 33 letters', 'm'.repeat(33)],
    ['that is empty', ''],
  ] as const) {
    test(`${name} is not a hint: the request stays here`, async (t) => {
      const raw = `GET / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: x~${hint}\r\nConnection: close\r\n\r\n`;
      // With an unresponsive peer the request might not be served.
      const { statuses, sessions } = await sendRaw(t, raw, { FLEET: 'off' });
      assert.deepEqual(statuses, ['200']);
      assert.deepEqual(sessions, [`x~${hint}`]);
    });
  }

  test('replays its own request, and only the Machine of its text is in the response', async (t) => {
    const raw =
      'GET / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: secret~m3\r\nConnection: close\r\n\r\n';
    const { statuses, text, targets } = await sendRaw(t, raw);
    assert.deepEqual(statuses, ['307']);
    assert.deepEqual(targets, []);
    assert.match(
      text,
      /fly-replay: instance=m3;state=fly-affinity;timeout=10s;fallback=prefer_self\r\n/,
    );
    assert.doesNotMatch(text, /secret/);
  });

  test('does not move a session that is bound here', async (t) => {
    const app = await serveApp(t, (_req, res) => {
      res.setHeader('mcp-session-id', 'abc');
      res.end();
    });
    const { ports } = await startTestSidecar(t, app, { FLEET: 'm2@127.0.0.1:9' });
    const url = `http://127.0.0.1:${ports.public}/`;
    await fetch(url, { method: 'POST' });
    const forged = await fetch(url, {
      headers: { 'mcp-session-id': 'abc~m2' },
      redirect: 'manual',
    });
    assert.equal(forged.status, 200);
    const own = await fetch(url, { headers: { 'mcp-session-id': 'abc~m1' } });
    assert.equal(own.status, 200);
  });
});

describe('fly-* headers of a client', () => {
  for (const header of [
    'fly-replay-src: instance=m1;t=junk;;;=',
    'fly-replay-src: \xff\xfe',
    'fly-replay-failed: instance=m2;reason=nonsense;elapsed_ms=-1',
    'fly-replay-cache-status: hit',
    'fly-preferred-instance-unavailable: ../../etc',
    'fly-replay: instance=m9',
  ]) {
    test(`${JSON.stringify(header)} does no harm: one response, and the connection stays usable`, async (t) => {
      const raw = `GET / HTTP/1.1\r\nHost: a\r\n${header}\r\n\r\n${LAST}`;
      const { statuses, text } = await sendRaw(t, raw);
      assert.deepEqual(statuses, ['200', '200']);
      assert.doesNotMatch(text, /fly-replay/i);
    });
  }

  test('that report an unreachable owner release no session: 503, and the session stays bound', async (t) => {
    const id = parseSessionId('abc') ?? assert.fail();
    assert.ok(sessionKeyOf(id) && parseMachineId('m2'));
    const raw = (extra: string): string =>
      `GET / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: abc~m2\r\n${extra}\r\n`;
    const failed = 'fly-replay-failed: instance=m2;reason=no_candidate\r\n';
    const { statuses, text } = await sendRaw(t, raw(failed) + raw('Connection: close\r\n'));
    assert.deepEqual(statuses, ['503', '307']);
    assert.match(text, /retry-after: 1/);
  });
});
