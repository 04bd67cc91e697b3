import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parseSimulateArguments, replayCacheRule } from '../../src/cli/simulate.ts';
import { startCollector } from '../support/collector.ts';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

interface RunningCommand {
  readonly process: ChildProcess;
  readonly ended: Promise<unknown[]>;
  /** Resolves once the output matches; fails if the command ends before. */
  output(pattern: RegExp): Promise<RegExpExecArray>;
}

function startCommand(
  t: TestContext,
  args: readonly string[],
  settings: Readonly<Record<string, string>> = {},
): RunningCommand {
  const child = spawn(process.execPath, [...process.execArgv, MAIN, 'simulate', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...settings },
  });
  t.after(() => child.kill('SIGKILL'));
  let text = '';
  let isClosed = false;
  for (const output of [child.stdout, child.stderr]) {
    output.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      child.emit('output');
    });
  }
  child.once('close', () => {
    isClosed = true;
    child.emit('output');
  });
  const output = async (pattern: RegExp): Promise<RegExpExecArray> => {
    for (;;) {
      const found = pattern.exec(text);
      if (found) return found;
      assert.ok(!isClosed, `${String(pattern)} in: ${text}`);
      await once(child, 'output');
    }
  };
  return { process: child, ended: once(child, 'exit'), output };
}

test('arguments have defaults, and the app follows after --', () => {
  assert.deepEqual(parseSimulateArguments([]).arguments, {
    machineCount: 3,
    port: 8080,
    spread: 'round-robin',
    replayCache: [],
    hardLimit: undefined,
    appCommand: undefined,
  });
  const all = [
    '--machines',
    '5',
    '--port=0',
    '--spread',
    'never-same',
    '--replay-cache=header:mcp-session-id',
    '--replay-cache=/app=cookie:sid:600',
    '--hard-limit=25',
    '--',
    'npm',
    'start',
    '--x',
  ];
  assert.deepEqual(parseSimulateArguments(all).arguments, {
    machineCount: 5,
    port: 0,
    spread: 'never-same',
    replayCache: [
      { pathPrefix: '/', ttlSeconds: 300, type: 'header', name: 'mcp-session-id' },
      { pathPrefix: '/app', ttlSeconds: 600, type: 'cookie', name: 'sid' },
    ],
    hardLimit: 25,
    appCommand: ['npm', 'start', '--x'],
  });
});

test('every error is reported at once, with what was found and what is expected', () => {
  const args = ['--machines', '0', '--port', '80a', '--spread', 'evenly'];
  args.push('--replay-cache', 'query:sid', '--hard-limit', '0', '--');
  assert.deepEqual(parseSimulateArguments(args).mistakes, [
    '--machines must be a whole number from 1 to 20, got "0"',
    '--port must be a port number from 0 to 65535, got "80a"',
    '--spread must be one of round-robin, random, never-same, got "evenly"',
    '--replay-cache must be [PATH=]header|cookie:NAME[:SECONDS] with 10 seconds or more, got "query:sid"',
    '--hard-limit must be a whole number from 1 to 99999, got "0"',
    'the command of the app must follow after --',
  ]);
  assert.match(parseSimulateArguments(['--ports', '1']).mistakes?.[0] ?? '', /--ports/);
  assert.match(parseSimulateArguments(['npm']).mistakes?.[0] ?? '', /npm/);
});

const NO_RULES = [
  '',
  'header',
  'header:',
  'header:a b',
  'header:x:9',
  'header:x:ten',
  'header:x:10:y',
  'app=cookie:sid',
  'Header:x',
];

for (const text of NO_RULES) {
  test(`"${text}" is not a replay cache rule`, () => {
    assert.equal(replayCacheRule(text).value, undefined);
  });
}

test('a replay cache rule may name a host, and lasts ten seconds or more', () => {
  assert.deepEqual(replayCacheRule('api.example.com/api=header:Authorization:10').value, {
    pathPrefix: 'api.example.com/api',
    ttlSeconds: 10,
    type: 'header',
    name: 'Authorization',
  });
});

test('an error ends with code 64 and the usage', async (t) => {
  const command = startCommand(t, ['--machines', 'many']);
  await command.output(/--machines must be[^]*Usage:/);
  assert.deepEqual(await command.ended, [64, null]);
});

test('a port in use ends the command with code 1 and a message', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.after(() => taken.close());
  const { port } = taken.address() as AddressInfo;
  const command = startCommand(t, ['--port', String(port)]);
  await command.output(new RegExp(`EADDRINUSE.*:${port}`));
  assert.deepEqual(await command.ended, [1, null]);
});

test('a mistake in the settings is printed once, with code 78, and nothing starts', async (t) => {
  const command = startCommand(t, ['--port', '0'], { FLY_AFFINITY_SESSION_STORE_TTL_MS: 'long' });
  const [text] = await command.output(/^[^]*mistake[^]*\n$/);
  assert.deepEqual(await command.ended, [78, null]);
  const lines = text.trimEnd().split('\n');
  assert.equal(lines[0], 'fly-affinity simulate: 1 mistake in the configuration');
  assert.match(lines[1] ?? '', /^ {2}FLY_AFFINITY_SESSION_STORE_TTL_MS must be .*, got "long"$/);
  assert.equal(lines.length, 2);
});

test('ports with the prefix do not take those of the simulated Machines', async (t) => {
  const env = {
    FLY_AFFINITY_PORT: '1',
    FLY_AFFINITY_HOST: 'no-such-host',
    FLY_AFFINITY_FLEET: 'off',
  };
  const command = startCommand(t, ['--machines', '1', '--port', '0'], env);
  const [, url = ''] = await command.output(/Fly Proxy on (http:\S+),[^]*Ctrl-C/);
  assert.equal((await fetch(url)).status, 200);
  command.process.kill('SIGINT');
  assert.deepEqual(await command.ended, [0, null]);
});

test('simulate prints its address and one line per request, and stops everything at Ctrl-C', async (t) => {
  const command = startCommand(t, ['--machines', '1', '--port', '0']);
  const [, url = '', machine = ''] = await command.output(
    /Fly Proxy on (http:\S+),[^]*Machine ([0-9a-f]{14}) [^]*Ctrl-C/,
  );
  const response = await fetch(`${url}/hello?session_id=secret`);
  assert.match(await response.text(), new RegExp(`This is Machine ${machine}`));
  await command.output(
    new RegExp(`^GET /hello  ${machine} -> ${machine}  200  0 replays  \\d+\\.\\d ms$`, 'm'),
  );
  command.process.kill('SIGINT');
  assert.deepEqual(await command.ended, [0, null]);
});

test('the sidecars of simulate log as text, and warn of nothing on a fresh fleet', async (t) => {
  const command = startCommand(t, ['--machines', '2', '--port', '0'], { LOG_LEVEL: 'info' });
  const [text] = await command.output(/^(?:[^]*\[\w+ sidecar\] [\d:.]+ INFO {2}serving ){2}/);
  assert.doesNotMatch(text, /sidecar\] \{| WARN /);
  command.process.kill('SIGINT');
  assert.deepEqual(await command.ended, [0, null]);
});

test('simulate ends with the requests of all Machines by protocol', async (t) => {
  const command = startCommand(t, ['--machines', '2', '--port', '0']);
  const [, url = ''] = await command.output(/Fly Proxy on (http:\S+),[^]*Ctrl-C/);
  const call = async (method: string, session: Record<string, string> = {}): Promise<Response> => {
    const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method });
    const response = await fetch(`${url}/mcp`, { method: 'POST', body, headers: session });
    assert.equal(response.status, 200);
    await response.arrayBuffer();
    return response;
  };
  const opened = await call('initialize');
  const session = { 'mcp-session-id': opened.headers.get('mcp-session-id') ?? '' };
  for (let count = 1; count <= 3; count += 1) await call('count', session);
  command.process.kill('SIGINT');
  await command.output(
    /^Requests with a session id, by protocol:\n {2}mcp {9} 3 {2}\(MCP servers, Streamable HTTP\)$/m,
  );
  assert.deepEqual(await command.ended, [0, null]);
});

test('simulate shows the warning of a sidecar whose setting misses the protocol of the app', async (t) => {
  const command = startCommand(t, ['--machines', '1', '--port', '0'], {
    SESSION_PROTOCOLS: 'socket.io',
  });
  const [, url = ''] = await command.output(/Fly Proxy on (http:\S+),[^]*Ctrl-C/);
  await fetch(`${url}/hello`, { headers: { 'mcp-session-id': 'of-another-tool' } });
  await command.output(/looks like MCP servers, Streamable HTTP; add mcp to SESSION_PROTOCOLS/);
  command.process.kill('SIGINT');
  await command.output(/^No request had a session id: /m);
  assert.deepEqual(await command.ended, [0, null]);
});

test('the last traces are sent before it ends', async (t) => {
  const collector = await startCollector(t);
  const command = startCommand(t, ['--machines=1', '--port=0'], {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
  });
  const [, url = ''] = await command.output(/Simulated Fly Proxy on (\S+),/);
  await (await fetch(`${url}/last`)).text();
  command.process.kill('SIGTERM');
  assert.deepEqual(await command.ended, [0, null]);
  assert.deepEqual(
    collector.spans.map(({ attributes }) => attributes['url.path']),
    ['/last'],
  );
});
