/** `fly-affinity explain` against whole sidecars with real peers. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { execute } from '../../src/cli/explain.ts';
import { MEANINGS } from '../../src/cli/explanation.ts';
import type { Environment } from '../../src/config/config.ts';
import type { Explanation } from '../../src/routing/explain.ts';
import { until } from '../fleet/support.ts';
import { openFleet } from '../support/fleet.ts';
import { freePort } from '../support/free-port.ts';
import { keyOf } from '../support/ids.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';
import { runInProcess, type Ran, type RunOptions } from './in-process.ts';

const ADMIN_TOKEN = 'a-token-of-an-operator';
/** A session of m1. No output may contain it. */
const ID = 's3cr3t-id';
const KEY = keyOf(ID);

/** No command of these tests prints a session id. */
async function explain(args: readonly string[], options: RunOptions): Promise<Ran> {
  const ran = await runInProcess(execute, args, options);
  assert.doesNotMatch(ran.output + ran.errors, /s3cr3t/);
  return ran;
}

interface Fleet {
  readonly m1: Environment;
  /** Has a copy of m1's session. */
  readonly m2: Environment;
  /** Requests that an app has received. */
  readonly served: string[];
}

/** The environments of two Machines. */
async function openTwoMachines(t: TestContext, settings: Environment = {}): Promise<Fleet> {
  const fleet = await openFleet(t, 'm1', 'm2');
  const served: string[] = [];
  const app = await serveApp(t, (req, res) => {
    served.push(req.url ?? '');
    res.writeHead(200, { 'mcp-session-id': ID }).end();
  });
  const [m1, m2] = [
    await fleet.start('m1', app, { ADMIN_TOKEN, ...settings }),
    await fleet.start('m2', app, { ADMIN_TOKEN, ...settings }),
  ];
  await fetch(`${m1.url}/mcp`, { method: 'POST' });
  await until(async () => (await m2.rowCount()) === 1);
  served.length = 0;
  const [one, two] = [m1, m2].map(({ sidecar }) => ({
    ADMIN_TOKEN,
    ADMIN_PORT: String(sidecar.ports.admin),
  }));
  assert.ok(one && two);
  return { m1: one, m2: two, served };
}

test('the decision comes first, then the steps to it, and nothing reaches the app', async (t) => {
  const { m2, served } = await openTwoMachines(t);
  const args = ['-X', 'POST', '-H', 'mcp-session-id: {id}', '/mcp'];
  const { code, output, errors } = await explain(args, { env: m2, input: `${ID}\n` });
  assert.deepEqual([code, errors, served], [0, '', []]);
  const expected = `Decision: Fly Proxy replays the request to Machine m1 (replay, not-owner, row 16)
Why:      another Machine owns the session
Owner:    Machine m1, running, known by this Machine's store
Session:  key ${KEY}, of an id in the header mcp-session-id (mcp)

Steps of Machine m2:
  1. The request is well-formed.
  2. Session: key ${KEY}, of an id in the header mcp-session-id (mcp).
  3. This Machine's store names Machine m1; the binding is a copy that its owner has sent, and expires in TIME.
  4. Machine m1 is running.
  5. Owner: Machine m1, running, known by this Machine's store.
  6. Row 16 of the decision table applies.

This sidecar would respond: 307
  fly-replay: instance=m1;state=fly-affinity;timeout=3s;fallback=prefer_self
`;
  assert.equal(output.replace(/expires in [\dms]+/, 'expires in TIME'), expected);
});

test('the owner of the session says that its app would respond', async (t) => {
  const { m1 } = await openTwoMachines(t);
  const { output } = await explain(['-H', `mcp-session-id: ${ID}`, '/mcp'], { env: m1 });
  assert.match(
    output,
    /^Decision: the app of this Machine gets the request \(local, owner, row 21\)/,
  );
  assert.match(output, /made when the app revealed the id/);
  assert.match(output, /\nThe app of this Machine would respond\.\n$/);
});

test('--json is what the sidecar responds', async (t) => {
  const { m2 } = await openTwoMachines(t);
  const args = ['--json', '-H', 'mcp-session-id: {id}', '/mcp'];
  const { output } = await explain(args, { env: m2, input: ID });
  const { machine, steps, response } = JSON.parse(output) as Explanation;
  assert.deepEqual([machine, steps.at(-1)?.step, response.by], ['m2', 'decision', 'sidecar']);
});

for (const [claim, args] of [
  ['a header', ['-H', 'mcp-session-id: {id}', '/mcp']],
  ['a query parameter', ['/messages?session_id={id}']],
  ['a URL', ['https://app.example/messages?session_id={id}']],
] as const) {
  test(`the id of standard input can stand in ${claim}`, async (t) => {
    const { m2 } = await openTwoMachines(t);
    const { output } = await explain(args, { env: m2, input: ID });
    assert.match(output, new RegExp(`key ${KEY}`));
  });
}

test('an id that a URL can not carry as it is becomes percent-encoded in the path', async (t) => {
  const { m2 } = await openTwoMachines(t);
  const id = 'zwei Räume';
  const { output } = await explain(['/messages?session_id={id}'], { env: m2, input: id });
  const key = keyOf(Buffer.from(id, 'utf8').toString('latin1'));
  assert.match(output, new RegExp(`key ${key}`));
});

test('an id as long as a head is read wholly', async (t) => {
  const port = await serveApp(t, (req, res) => {
    let text = '';
    req.on('data', (chunk) => (text += String(chunk)));
    req.on('end', () => {
      const length = /a{100,}/.exec(text)?.[0].length;
      res.end(
        JSON.stringify({ machine: 'm1', steps: [{ step: 'x' }], response: { by: 'app' }, length }),
      );
    });
  });
  const env = { ADMIN_TOKEN, ADMIN_PORT: String(port) };
  const args = ['--json', '-H', 'a: {id}', '/'];
  const { code } = await explain(args, { env, input: `${'a'.repeat(32_768)}\n` });
  assert.equal(code, 0);
  const tooLong = await explain(args, { env, input: `${'a'.repeat(32_769)}\n` });
  assert.deepEqual([tooLong.code, tooLong.output], [64, '']);
});

test('an id in the body is explained, a POST of JSON by default', async (t) => {
  const { m2 } = await openTwoMachines(t, { SESSION_PROTOCOLS: 'auto,body:/room' });
  const { output } = await explain(['-d', '{"room":"{id}"}', '/join'], { env: m2, input: ID });
  assert.match(output, new RegExp(`Session: +key ${KEY}, of an id in the body .body:/room`));
  const { output: form } = await explain(['-d', 'room={id}', '/join'], { env: m2, input: ID });
  assert.match(form, /no session id/);
});

interface ExplainedCase {
  readonly claim: string;
  readonly args: readonly string[];
  readonly says: RegExp;
  readonly setting?: Environment;
}

for (const { claim, args, says, setting } of [
  { claim: 'no session id', args: ['/'], says: /any Machine may serve it/ },
  {
    claim: 'two ids of a listed protocol',
    args: ['/?session_id=a&session_id=b'],
    setting: { SESSION_PROTOCOLS: 'mcp,rpc' },
    says: /two different session ids[^]*would respond: 400/,
  },
  {
    claim: 'a session that nobody knows',
    args: ['-H', 'mcp-session-id: x', '/'],
    says: /Peers were queried: m1 does not have the session\.[^]*Row 35/,
  },
  {
    claim: "a client's own new id",
    args: ['-H', 'x-session-id: x', '/'],
    says: /A new session with this id belongs on Machine m[12]/,
  },
  {
    claim: 'an owner hint',
    args: ['-H', 'mcp-session-id: x~m1', '/'],
    says: /ends with an owner hint: Machine m1[^]*known by the owner hint/,
  },
  {
    claim: 'a body without a length',
    args: ['-H', `mcp-session-id: x~m1`, '-H', 'transfer-encoding: chunked', '-X', 'POST', '/'],
    says: /forwards the request[^]*has no length[^]*The app of Machine m1 would respond, through this sidecar/,
  },
  {
    claim: 'a replay of a sidecar',
    args: [
      '-H',
      `mcp-session-id: x~m1`,
      '-H',
      'fly-replay-src: instance=m1;state=fly-affinity',
      '/',
    ],
    says: /A sidecar has replayed it once, that of Machine m1/,
  },
  {
    claim: 'a replay of an app',
    args: ['-H', 'fly-replay-src: instance=m1', '/'],
    says: /The app of Machine m1 has replayed it/,
  },
  {
    claim: 'a failed replay',
    args: [
      '-H',
      'mcp-session-id: x~m1',
      '-H',
      'fly-replay-failed: instance=m1;reason=timeout',
      '/',
    ],
    says: /Fly Proxy could not deliver it to Machine m1/,
  },
  {
    claim: 'a forward of a peer',
    args: ['--from', 'peer', '-H', 'mcp-session-id: x', '/'],
    says: /A peer has forwarded the request\./,
  },
  {
    claim: 'a malformed request',
    args: ['-H', 'content-length: x', '/'],
    says: /The request is malformed\./,
  },
] as readonly ExplainedCase[]) {
  test(`${claim} is explained`, async (t) => {
    const { m2 } = await openTwoMachines(t, setting);
    const { code, output } = await explain(args, { env: m2 });
    assert.equal(code, 0);
    assert.match(output, says);
    assert.doesNotMatch(output, /undefined|\[object/);
  });
}

test('a Machine that drains, and is alone, says so', async (t) => {
  const app = await serveApp(t, (_, res) => void res.end());
  const { ports } = await startTestSidecar(t, app, { ADMIN_TOKEN });
  const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
  await fetch(`http://127.0.0.1:${ports.admin}/drain`, { method: 'POST', headers });
  const env = { ADMIN_TOKEN, ADMIN_PORT: String(ports.admin) };
  const { output } = await explain(['/'], { env });
  assert.match(output, /takes no new sessions: it drains\.\n.*No other Machine runs\./);
});

/** A sidecar without the token, an older one, another program. */
const OTHERS = {
  'without /explain': { status: 404, body: 'not found\n', says: /has no \/explain/ },
  'that is another program': { status: 200, body: '<html>', says: /is no explanation/ },
  'with other steps': {
    status: 200,
    body: '{"machine":"m1","steps":[{}],"response":{"by":"app"}}',
    says: /is no explanation/,
  },
  'that fails': {
    status: 503,
    body: '{"error":"the session store failed"}',
    says: /503: the session store failed/,
  },
} as const;

for (const [claim, { status, body, says }] of Object.entries(OTHERS)) {
  test(`a sidecar ${claim} is an error with a reason`, async (t) => {
    const port = await serveApp(t, (_, res) => void res.writeHead(status).end(body));
    const env = { ADMIN_TOKEN, ADMIN_PORT: String(port) };
    const { code, output, errors } = await explain(['/'], { env });
    assert.deepEqual([code, output], [69, '']);
    assert.match(errors, says);
  });
}

test('a step of a newer sidecar is left out', async (t) => {
  const steps = [{ step: 'request', is: 'well-formed' }, { step: 'of-the-future' }];
  const body = JSON.stringify({ machine: 'm1\u001b[2J', steps, response: { by: 'app' } });
  const port = await serveApp(t, (_, res) => void res.end(body));
  const env = { ADMIN_TOKEN, ADMIN_PORT: String(port) };
  const { code, output } = await explain(['/'], { env });
  assert.equal(code, 0);
  assert.match(output, /Steps of Machine m1\?\[2J:\n {2}1\. The request is well-formed\.\n\n/);
});

test('no token, another token, and no sidecar are errors with a reason', async (t) => {
  const { m2 } = await openTwoMachines(t);
  const none = await explain(['/'], { env: { ...m2, ADMIN_TOKEN: '' } });
  assert.deepEqual([none.code, none.output], [78, '']);
  assert.match(none.errors, /ADMIN_TOKEN is not set/);
  const other = await explain(['/'], { env: { ...m2, ADMIN_TOKEN: 'another-token-altogether' } });
  assert.equal(other.code, 69);
  assert.match(other.errors, /has another ADMIN_TOKEN/);
  const env = { ADMIN_TOKEN, ADMIN_PORT: String(await freePort()) };
  const stopped = await explain(['/'], { env });
  assert.equal(stopped.code, 69);
  assert.match(stopped.errors, /nothing listens at .* not running/);
  const off = await explain(['/'], { env: { ADMIN_TOKEN, ADMIN_PORT: '0' } });
  assert.deepEqual([off.code, off.errors.includes('--admin')], [78, true]);
});

for (const args of [
  [],
  ['mcp'],
  ['/a', '/b'],
  ['/s3cr3t id'],
  ['-H', 's3cr3t', '/'],
  ['--s3cr3t', '/'],
  ['--from', 'x', '/'],
  ['--admin', 'x', '/'],
  ['-H', 'a: {id}', '/'],
]) {
  test(`"explain ${args.join(' ')}" is a mistake`, async () => {
    const env = { ADMIN_TOKEN };
    const { code, output, errors } = await explain(args, { env });
    assert.deepEqual([code, output], [64, '']);
    assert.match(errors, /^fly-affinity explain: [^\n]+\n$/);
  });
}

test('the page on operations has each reason, with the meaning that explain prints', () => {
  const page = readFileSync(new URL('../../src/docs/operations.md', import.meta.url), 'utf8');
  const rows = page.matchAll(
    /^\| `([\w-]+)` +\| (.*?) +\| `(?:local|replay|elsewhere|forward|refuse)`/gm,
  );
  const found = [...rows].map(([, why = '', meaning = '']) => [why, meaning.replaceAll('`', '')]);
  assert.deepEqual(Object.fromEntries(found), MEANINGS);
  assert.equal(found.length, Object.keys(MEANINGS).length);
});
