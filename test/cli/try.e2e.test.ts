import assert from 'node:assert/strict';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { createInterface } from 'node:readline';
import { test, type TestContext } from 'node:test';
import type { ChildProcess } from 'node:child_process';
import { run, start } from './program.ts';
import {
  APP_WITHOUT_PORT,
  DYING_APP,
  FORGETFUL_APP,
  MCP_APP,
  MUTE_APP,
  PLAIN_APP,
  ROOMS_APP,
  RPC_APP,
  SILENT_APP,
  STATELESS_MCP_APP,
} from './try/apps.ts';

interface Trial {
  readonly calls: number;
  readonly lost: number;
  readonly elsewhere: number;
  readonly replayed: number;
  readonly reasons: Readonly<Record<string, number>>;
  readonly memoryBytes: { readonly app: number | null; readonly sidecar: number | null };
  readonly sessions: readonly {
    readonly machine: string;
    readonly calls: readonly { readonly machine: string; readonly lost: object | null }[];
  }[];
}

interface Result {
  readonly ok: boolean;
  readonly protocol: { readonly preset: string | null };
  readonly without: Trial;
  readonly with: Trial;
}

async function tried(
  t: TestContext,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ readonly code: number | null; readonly result: Result }> {
  const { code, output, errors } = await run(t, { args: ['try', '--json', ...args], env });
  assert.match(output, /^\{.*\}\n$/, errors);
  return { code, result: JSON.parse(output) as Result };
}

test('an MCP server loses its sessions without the sidecar, and none with it', async (t) => {
  const { code, result } = await tried(t, ['--sessions', '3', '--', ...MCP_APP]);
  assert.equal(code, 0);
  assert.equal(result.protocol.preset, 'mcp');
  const { without, with: affine } = result;
  assert.deepEqual([without.calls, affine.calls, affine.lost], [30, 30, 0]);
  assert.ok(without.lost > 0);
  assert.deepEqual(without.reasons, { '404 Session not found': without.lost });
  assert.ok(affine.replayed > 0);
  for (const { machine, calls } of affine.sessions)
    for (const call of calls) assert.equal(call.machine, machine);
  for (const { machine, calls } of without.sessions)
    for (const call of calls) assert.equal(call.lost === null, call.machine === machine);
});

test('a request of the user is compared, and no output has a session id', async (t) => {
  const args = ['--request', 'POST /rpc', '--data', '{}', '--calls', '5', '--', ...RPC_APP];
  const { code, output } = await run(t, { args: ['try', ...args] });
  assert.equal(code, 0);
  assert.match(output, /\d+: 404 no such session: \(id\)/);
  assert.match(output, /With fly-affinity every call found its session; without it, \d+ of 25/);
  assert.doesNotMatch(output, /[0-9a-f]{8}-[0-9a-f]{4}-/);
});

test('a setting that misses the protocol of the app fails, and the advice names it', async (t) => {
  const args = ['--request', 'POST /rpc', '--data', '{}', '--', ...RPC_APP];
  const { code, output } = await run(t, {
    args: ['try', ...args],
    env: { SESSION_PROTOCOLS: 'mcp' },
  });
  assert.equal(code, 1);
  assert.match(output, /With fly-affinity \d+ of 50 calls lost their session\./);
  assert.match(output, /saw no session id in these requests: SESSION_PROTOCOLS/);
});

test('an app that ignores PORT is told where it listens, and what to do', async (t) => {
  const { code, errors } = await run(t, { args: ['try', '--', ...APP_WITHOUT_PORT] });
  assert.equal(code, 1);
  assert.match(
    errors,
    /^The app listens at http:\/\/127\.0\.0\.1:(\d+), and not on PORT, which is \d+ for it\.\n[^]*sh -c 'exec [^]*\$PORT'\n.*UPSTREAM_URL=http:\/\/127\.0\.0\.1:\1\./,
  );
});

test('rooms in WebSockets are recognised, and a setting keeps each on one Machine', async (t) => {
  const { code, output } = await run(t, { args: ['try', '--', ...ROOMS_APP] });
  assert.equal(code, 1);
  assert.match(output, /WebSockets, at \/, and no other protocol[^]*--request 'WS \/\{session\}'/);
  const args = ['--request', 'WS /{session}', '--', ...ROOMS_APP];
  const { code: good, result } = await tried(t, args, { SESSION_PROTOCOLS: 'auto,yjs' });
  assert.equal(good, 0);
  assert.deepEqual([result.with.calls, result.with.lost, result.with.elsewhere], [50, 0, 0]);
  assert.ok(result.without.elsewhere > 0);
});

test('an app that leaves calls without a response ends the trial early, and the output says so', async (t) => {
  const args = ['try', '--request', '/', '--', ...MUTE_APP];
  const { code, output } = await run(t, { args });
  assert.equal(code, 0);
  const [, made] = /without it, 5 of (\d+) did not/.exec(output) ?? [];
  assert.match(output, /Not all calls were made \(-\): 5 had no response in time/);
  assert.match(output, new RegExp(`calls that were not made +${50 - Number(made)} +0\n`));
});

test('calls that fail on the only Machine are no lost sessions', async (t) => {
  const args = ['try', '--request', '/', '--', ...FORGETFUL_APP];
  const { code, output } = await run(t, { args });
  assert.equal(code, 1);
  assert.match(
    output,
    /\n {2}No session to test: on the only Machine, a call in the session fails: 404 never heard of it\.\n$/,
  );
});

test('an app of no known protocol ends with what was tried, and how to say more', async (t) => {
  const { code, output } = await run(t, { args: ['try', '--', ...PLAIN_APP] });
  assert.equal(code, 1);
  assert.match(output, /no protocol that this command knows[^]*POST \/mcp: 200\n[^]*--request/);
});

test('an MCP server without sessions is told that it needs no affinity', async (t) => {
  const { code, output } = await run(t, { args: ['try', '--', ...STATELESS_MCP_APP] });
  assert.equal(code, 0);
  assert.match(output, /It keeps no sessions: .*mcp-session-id\.\n.*changes nothing for it/);
});

test('an app that exits meanwhile is shown with its last lines', async (t) => {
  const args = ['try', '--request', '/', '--', ...DYING_APP];
  const { code, errors } = await run(t, { args });
  assert.equal(code, 1);
  assert.equal(errors, 'fly-affinity try: the app has exited; its last lines:\nout of luck\n');
});

test('a program that is not there is named', async (t) => {
  const { code, errors } = await run(t, { args: ['try', '--', 'no-such-program'] });
  assert.equal(code, 1);
  assert.match(errors, /^fly-affinity try: cannot start no-such-program: /);
});

test('every mistake in the command is reported at once, with code 64', async (t) => {
  const args = ['try', '--machines', '0', '--data', 'x', '--'];
  const { code, errors } = await run(t, { args });
  assert.equal(code, 64);
  assert.equal(
    errors,
    'fly-affinity try: --machines must be a whole number from 1 to 20, got "0"; --data needs --request; the command of the app must follow after --. See fly-affinity try --help.\n',
  );
});

test('a mistake in the settings ends with code 78', async (t) => {
  const env = { SESSION_STORE_TTL_MS: 'long' };
  const { code, errors } = await run(t, { args: ['try', '--', ...MCP_APP], env });
  assert.equal(code, 78);
  assert.match(errors, /SESSION_STORE_TTL_MS must be/);
});

test('Ctrl-C ends it with code 130, also while the app starts', async (t) => {
  const child = start(t, { args: ['try', '--', ...SILENT_APP] });
  assert.ok(child.stdout);
  await once(child.stdout, 'data');
  child.kill('SIGINT');
  assert.deepEqual(await once(child, 'exit'), [130, null]);
});

interface Kept {
  readonly child: ChildProcess;
  /** Resolves to the next line that matches. */
  readonly line: (pattern: RegExp) => Promise<string>;
  readonly type: (command: string) => void;
}

function startKept(t: TestContext, args: readonly string[]): Kept {
  const child = start(t, {
    args: ['try', '--keep', '--sessions', '2', '--calls', '2', ...args, '--', ...MCP_APP],
    stdin: 'pipe',
  });
  assert.ok(child.stdout && child.stdin && child.stderr);
  const { stdin } = child;
  void text(child.stderr);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async (pattern: RegExp): Promise<string> => {
    for (let next = await lines.next(); !next.done; next = await lines.next()) {
      if (pattern.test(next.value)) return next.value;
    }
    return assert.fail(`no line matches ${String(pattern)}`);
  };
  return { child, line, type: (command) => void stdin.write(`${command}\n`) };
}

test('--keep prints a line for each request, and obeys commands about Machines', async (t) => {
  const { child, line, type } = startKept(t, []);
  await line(/It goes on {2}at http:/);
  await line(
    /^POST \/mcp {2}session [0-9a-f]{8} {2}(.* > )?Machine \d local \(owner\) {2}20\d {2}/,
  );
  for (const [command, outcome] of [
    ['crash 1', /^Machine 1 has crashed$/],
    ['crash 1', /^Machine \w+ is stopped: cannot crash$/],
    ['start 1', /^Machine 1 runs$/],
    ['suspend 2', /^Machine 2 is suspended$/],
    ['start 2', /^Machine 2 runs$/],
    ['drain 3', /^Machine 3 drains$/],
    ['undrain 3', /^Machine 3 takes new sessions$/],
    ['cut-off 3', /^Machine 3 is cut off$/],
    ['reconnect 3', /^Machine 3 is connected$/],
    ['restart 1', /^Machine 1 has restarted$/],
    ['stop 1', /^Machine 1 is stopped$/],
    ['stop 4', /^stop needs a Machine, from 1 to 3: stop 1$/],
    ['explode 1', /^No such command\. /],
    ['machines', /^ {2}1 {2}[0-9a-f]{14} {2}\w{3} {2}\w+$/],
    ['help', /^ {2}cut-off N {4}cuts it off/],
  ] as const) {
    type(command);
    await line(outcome);
  }
  type('quit');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

test('--keep tells when a session is lost, and that the client opens a new one', async (t) => {
  const { child, line, type } = startKept(t, []);
  await line(/^POST .* local \(owner\)/);
  for (const machine of [1, 2, 3]) type(`crash ${machine}`);
  await line(/^Session [0-9a-f]{8} is lost: .*\. The client opens a new one\.$/);
  child.kill('SIGINT');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

test('--keep with --json prints an object for each request, with the decisions of the sidecars', async (t) => {
  const { child, line } = startKept(t, ['--json']);
  const result = JSON.parse(await line(/^/)) as Result;
  assert.equal(result.ok, true);
  const request = JSON.parse(await line(/"decision":"local","why":"owner"/)) as {
    readonly session: string;
    readonly status: number;
  };
  assert.match(request.session, /^[0-9a-f]{8}$/);
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});
