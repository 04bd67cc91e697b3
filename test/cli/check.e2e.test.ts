/**
 * `fly-affinity check` against Machines behind the simulated Fly Proxy: without sidecars it shows the need, with them
 * the proof.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { execute } from '../../src/cli/check.ts';
import type { CheckReport } from '../../src/cli/check/report.ts';
import { systemClock } from '../../src/clock.ts';
import { startSimulation, type Simulation } from '../../src/simulator/simulation.ts';
import { runInProcess } from './in-process.ts';

const pathOf = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

const OPTIONS = {
  appCommand: [process.execPath, pathOf('../e2e/apps/main.ts')],
  env: { PATH: process.env.PATH },
  sidecarEnv: { SESSION_PROTOCOLS: 'mcp,mcp-sse,socket.io,rpc,cookie:sid' },
  clock: systemClock,
  random: Math.random,
  edge: { spread: 'never-same' },
} as const;
const SIDECAR = [process.execPath, pathOf('../../src/main.ts'), 'serve'];

let bare: Simulation;
let helped: Simulation;

before(async () => {
  bare = await startSimulation(OPTIONS);
  helped = await startSimulation({ ...OPTIONS, sidecarCommand: SIDECAR });
});

after(async () => {
  await Promise.all([bare.close(), helped.close()]);
});

interface Checked {
  readonly code: number;
  readonly report: CheckReport;
}

async function check({ url }: Simulation, args: readonly string[]): Promise<Checked> {
  const limits = ['--sessions', '4', '--calls', '4'];
  const { code, output } = await runInProcess(execute, [url, '--json', ...limits, ...args]);
  return { code, report: JSON.parse(output) as CheckReport };
}

const rpc = (method: string): string => JSON.stringify({ jsonrpc: '2.0', id: 1, method });

for (const { claim, args, protocol, hasHints = true } of [
  { claim: 'what it finds by itself', args: [], protocol: 'mcp' },
  { claim: 'MCP', args: ['--path', '/mcp'], protocol: 'mcp' },
  { claim: 'MCP over SSE', args: ['--path', '/sse'], protocol: 'mcp-sse' },
  { claim: 'Socket.IO', args: ['--path', '/socket.io/'], protocol: 'socket.io', hasHints: false },
  { claim: 'a cookie', args: ['--open', 'GET /login', '--request', 'GET /basket'], protocol: null },
  {
    claim: 'a request of the user',
    args: [
      ...['--open', 'POST /rpc', '--open-data', rpc('initialize')],
      ...['--request', 'POST /rpc/call', '--data', rpc('count')],
    ],
    protocol: null,
  },
]) {
  test(`${claim}: sessions are lost without sidecars`, async () => {
    const { code, report } = await check(bare, args);
    assert.deepEqual([code, report.verdict, report.protocol], [1, 'lost', protocol]);
    assert.ok(report.calls.lost > 0 && report.told.length > 0);
    assert.deepEqual([report.calls.made, report.machines, report.problems], [16, [], []]);
  });

  test(`${claim}: no session is lost with sidecars`, async () => {
    const { code, report } = await check(helped, args);
    assert.deepEqual([code, report.verdict, report.protocol], [0, 'kept', protocol]);
    assert.deepEqual([report.calls.lost, report.calls.failed, report.told], [0, 0, []]);
    if (!hasHints) return;
    const ids = helped.machines.map(({ id }) => id);
    assert.ok(report.machines.length > 1 && report.machines.every((id) => ids.includes(id)));
    const rows = report.latency.map(({ sentTo, calls }) => [sentTo, calls]);
    assert.deepEqual(rows, [
      ['any', 16],
      ['own', 4],
      ['other', 4],
    ]);
    assert.ok(typeof report.hopMs === 'number');
  });
}

test('with --machine, a call to the own Machine finds the session, and one to another does not', async () => {
  const machines = bare.machines.slice(0, 2).flatMap(({ id }) => ['--machine', id]);
  const { code, report } = await check(bare, [...machines, '--path', '/mcp']);
  assert.equal(code, 1);
  const rows = report.latency.map(({ sentTo, calls, lost }) => [sentTo, calls, lost]);
  assert.deepEqual(rows, [
    ['own', 8, 0],
    ['other', 8, 8],
  ]);
});

/** In the order of the calls of one session: the edge has a record of each. */
test('the edge replays each call that was sent to another Machine once, and none that was sent to the own', async () => {
  const from = helped.requests.length;
  const limits = ['--sessions', '2', '--calls', '1', '--path', '/mcp'];
  const { output } = await runInProcess(execute, [helped.url, '--json', ...limits]);
  const { machines, latency } = JSON.parse(output) as CheckReport;
  assert.equal(machines.length, 2);
  const rows = latency.map(({ sentTo, calls }) => [sentTo, calls]);
  assert.deepEqual(rows.slice(1), [
    ['own', 2],
    ['other', 2],
  ]);
  const posts = helped.requests.slice(from).filter(({ method }) => method === 'POST');
  assert.deepEqual(
    posts
      .slice(-4)
      .map(({ replays }) => replays)
      .sort(),
    [0, 0, 1, 1],
  );
});
