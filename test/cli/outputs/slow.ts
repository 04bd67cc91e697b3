/** The examples of the documentation that need processes: sidecars, apps, a simulated Fly Proxy. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { TestContext } from 'node:test';
import { createPlace } from '../../store/place.ts';
import { freePort } from '../../support/free-port.ts';
import { start } from '../program.ts';
import type { Scene } from './scenes.ts';
import { parseCommandLine } from './shown.ts';

/** An MCP server as small as can be, with its sessions in memory. */
const SERVER = `
const known = new Set();
require('node:http').createServer(async (request, response) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  const { id, method } = JSON.parse(text || '{}');
  const session = request.headers['mcp-session-id'];
  if (request.url !== '/mcp') return response.writeHead(404).end();
  if (session !== undefined && !known.has(session)) return response.writeHead(404).end('Session not found');
  if (method === 'initialize') {
    const minted = crypto.randomUUID();
    known.add(minted);
    response.setHeader('mcp-session-id', minted);
  }
  const result = { protocolVersion: '2025-06-18', capabilities: { tools: {} }, tools: [] };
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ jsonrpc: '2.0', id, result }));
}).listen(process.env.PORT, '127.0.0.1');
`;

interface Running {
  readonly child: ChildProcess;
  /** Resolves once all that was printed matches. */
  readonly printed: (pattern: RegExp) => Promise<RegExpExecArray>;
  /** Resolves to all that it prints until it ends. */
  readonly ended: () => Promise<string>;
}

type Settings = Readonly<Record<string, string>>;

/** In a folder with `server.js`. `more`: arguments for the computer that the test runs on. */
async function startShown(
  t: TestContext,
  command: string,
  { env: settings = {}, more = [] }: { readonly env?: Settings; readonly more?: readonly string[] },
): Promise<Running> {
  const place = await createPlace(t);
  await writeFile(place.path('server.js'), SERVER);
  const { env, name, args } = parseCommandLine(command);
  const child = start(t, {
    args: [name, ...more, ...args],
    env: {
      PATH: `${dirname(process.execPath)}:${process.env.PATH ?? ''}`,
      LOG_FORMAT: 'text',
      ...env,
      ...settings,
    },
    before: `process.chdir(${JSON.stringify(place.directory)})`,
  });
  return watch(child);
}

function watch(child: ChildProcess): Running {
  assert.ok(child.stdout && child.stderr);
  let text = '';
  for (const output of [child.stdout, child.stderr]) {
    output.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      child.emit('output');
    });
  }
  const closed = once(child, 'close').then(() => void child.emit('output'));
  const printed: Running['printed'] = async (pattern) => {
    for (;;) {
      const found = pattern.exec(text);
      if (found) return found;
      assert.equal(child.exitCode, null, `${String(pattern)} in: ${text}`);
      await once(child, 'output');
    }
  };
  return { child, printed, ended: () => closed.then(() => text) };
}

/** Ends by itself. */
const untilItsEnd: Scene = async (t, command) => (await startShown(t, command, {})).ended();

/** Ends by Ctrl-C, when it serves. */
const untilCtrlC: Scene = async (t, command) => {
  const { child, printed, ended } = await startShown(t, command, {});
  await printed(/ serving /);
  child.kill('SIGINT');
  return ended();
};

/** Ends by Ctrl-C, after the first requests of a session. */
const withSession: Scene = async (t, command) => {
  const UPSTREAM_URL = `http://127.0.0.1:${await freePort()}`;
  const { child, printed, ended } = await startShown(t, command, { env: { UPSTREAM_URL } });
  const [, port] = await printed(/ serving .*"public":(\d+)/);
  await callSession(`http://127.0.0.1:${port}`);
  child.kill('SIGINT');
  return ended();
};

/** The warnings of a busy computer, on which a sidecar responds late, are none of the example. */
const simulated: Scene = async (t, command) => {
  const options = { env: { LOG_LEVEL: 'error' }, more: ['--port', '0'] };
  const { child, printed, ended } = await startShown(t, command, options);
  const [, url = ''] = await printed(/Fly Proxy on (http:\S+),[^]*Ctrl-C/);
  await callSession(url);
  child.kill('SIGINT');
  return ended();
};

const ADDRESS = 'https://my-app.fly.dev';

/** Against the simulated Fly Proxy in place of the address. */
const deployed: Scene = async (t, command) => {
  const options = { env: { LOG_LEVEL: 'error' }, more: ['--port', '0'] };
  const fleet = await startShown(t, 'fly-affinity simulate', options);
  const [, url = ''] = await fleet.printed(/Fly Proxy on (http:\S+),[^]*Ctrl-C/);
  const text = await untilItsEnd(t, command.replace(ADDRESS, url));
  fleet.child.kill('SIGINT');
  await fleet.ended();
  return text.replaceAll(url, ADDRESS);
};

/** Opens one, and makes a call in it. */
async function callSession(url: string): Promise<void> {
  const call = async (method: string, headers: Record<string, string> = {}): Promise<string> => {
    const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method });
    const response = await fetch(`${url}/mcp`, { method: 'POST', body, headers });
    await response.arrayBuffer();
    assert.equal(response.status, 200);
    return response.headers.get('mcp-session-id') ?? '';
  };
  await call('count', { 'mcp-session-id': await call('initialize') });
}

const LOCAL = 'HOST=127.0.0.1 SESSION_STORE_URL=memory:';

// prettier-ignore
export const SLOW: ReadonlyMap<string, Scene> = new Map([
  [`${LOCAL} UPSTREAM_URL=http://shop.flycast fly-affinity serve`, untilCtrlC],
  [`${LOCAL} fly-affinity run -- node server.js`, withSession],
  ['fly-affinity try --sessions 2 -- node server.js', untilItsEnd],
  ['fly-affinity simulate', simulated],
  ['fly-affinity check https://my-app.fly.dev', deployed],
]);
