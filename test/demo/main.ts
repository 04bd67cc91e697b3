/**
 * `npm run demo`: three simulated Machines, a real MCP server on each, ten sessions, a hundred
 * calls; once with a sidecar in front of each server, once without. Ends with code 0 if every call
 * works with the sidecars, and calls fail without them.
 */
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/clock.ts';
import type { SimulatedMachine } from '../../src/simulator/machine.ts';
import { startSimulation, type Simulation } from '../../src/simulator/simulation.ts';
import { createDemoClient, type DemoClient, type SessionReport } from './client.ts';
import { formatTable } from './table.ts';

const CLIENT_COUNT = 10;
const CALLS_PER_CLIENT = 10;
const MACHINE_COUNT = 3;
const MAX_DURATION_MS = 55_000;
const COLUMNS = ['session', 'owner', 'calls', 'good', 'replays', ''];

// If the demo hangs, the simulator's processes end with this one.
setTimeout(() => {
  print('The demo did not end by itself.');
  process.exit(1);
}, MAX_DURATION_MS).unref();

const { reports, remembered } = await runWithSidecars();
const control = await runWithoutSidecars();

const works = reports.every(hasOnlyGoodCalls) && remembered >= CLIENT_COUNT;
const controlFails = !control.every(hasOnlyGoodCalls);
print('');
print(works ? 'With affinity every call reached its session.' : 'With affinity calls FAILED.');
print(
  controlFails
    ? 'Without affinity sessions are lost: the same server, the same client, the same edge.'
    : 'Without affinity every call worked, too: this demo has shown NOTHING.',
);
process.exitCode = works && controlFails ? 0 : 1;

function hasOnlyGoodCalls({ goodCalls }: SessionReport): boolean {
  return goodCalls === CALLS_PER_CLIENT;
}

async function runWithSidecars(): Promise<{ reports: SessionReport[]; remembered: number }> {
  let remembered = 0;
  print(`With fly-affinity in front of each of ${MACHINE_COUNT} MCP servers:`);
  const simulation = await startDemo({ sidecarCommand: command('../../src/main.ts', 'serve') });
  try {
    const reports = await callAll(simulation, async () => {
      print('  half of the calls are done: all sidecars are restarted, the servers run on');
      await Promise.all(simulation.machines.map((machine) => machine.restartSidecar('SIGTERM')));
      const counts = await Promise.all(simulation.machines.map(countRemembered));
      print(`  their SQLite files still know ${counts.join(', ')} sessions`);
      remembered = counts.reduce((sum, count) => sum + count, 0);
    });
    return { reports, remembered };
  } finally {
    await simulation.close();
  }
}

/** The sidecar's own status, before any request has reached it again. */
async function countRemembered({ ports }: SimulatedMachine): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${ports.admin}/metrics`);
  return Number(/^fly_affinity_sessions (\d+)$/m.exec(await response.text())?.[1] ?? 0);
}

async function runWithoutSidecars(): Promise<SessionReport[]> {
  print('\nThe same without fly-affinity:');
  const simulation = await startDemo({});
  try {
    return await callAll(simulation, () => Promise.resolve());
  } finally {
    await simulation.close();
  }
}

function startDemo(sidecars: { sidecarCommand?: readonly string[] }): Promise<Simulation> {
  return startSimulation({
    ...sidecars,
    appCommand: command('mcp-server.ts'),
    env: process.env,
    sidecarEnv: {
      LOG_LEVEL: 'error',
      // Each client keeps a stream open, and the demo should not wait for that.
      DRAIN_TIMEOUT_MS: '200',
    },
    machineCount: MACHINE_COUNT,
    clock: systemClock,
    random: Math.random,
    edge: { spread: 'never-same' },
    onLine: (machine, source, line) => print(`  [${machine} ${source}] ${line}`),
  });
}

function command(script: string, ...args: string[]): string[] {
  const path = fileURLToPath(new URL(script, import.meta.url));
  return [process.execPath, ...process.execArgv, path, ...args];
}

/** All clients at the same time, each with its calls in sequence. */
async function callAll(
  simulation: Simulation,
  halfway: () => Promise<void>,
): Promise<SessionReport[]> {
  const clients = Array.from({ length: CLIENT_COUNT }, () => createDemoClient(simulation.url));
  await Promise.all(clients.map((client) => client.open()));
  await callTimes(clients, CALLS_PER_CLIENT / 2);
  await halfway();
  await callTimes(clients, CALLS_PER_CLIENT / 2);
  await Promise.all(clients.map((client) => client.close()));
  const reports = clients.map((client) => client.report());
  print(
    formatTable(
      COLUMNS,
      reports.map((report) => row(report, simulation)),
    ),
  );
  return reports;
}

async function callTimes(clients: readonly DemoClient[], times: number): Promise<void> {
  await Promise.all(
    clients.map(async (client) => {
      for (let i = 0; i < times; i += 1) await client.call();
    }),
  );
}

function row(report: SessionReport, { requests }: Simulation): string[] {
  const { session, machines, calls, goodCalls, firstError, requestIds } = report;
  const own = requests.filter(({ requestId }) => requestIds.includes(requestId));
  const replays = own.reduce((sum, record) => sum + record.replays, 0);
  const owner = machines.join(', ') || '-';
  return [session, owner, String(calls), String(goodCalls), String(replays), firstError ?? ''];
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
