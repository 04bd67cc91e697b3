/**
 * `npm run demo`: what `fly-affinity try` shows, with a real MCP server, the client of the official SDK, and a
 * restart of all sidecars halfway. Ends with code 0 if calls fail without the sidecars, and none with them.
 */
import { fileURLToPath } from 'node:url';
import { formatComparison, formatSessions } from '../../src/cli/try/report.ts';
import { styleFor } from '../../src/cli/try/style.ts';
import { summaryOf } from '../../src/cli/try/summary.ts';
import { startTrial, type Trial, type TrialResult } from '../../src/cli/try/trial.ts';
import { systemClock } from '../../src/clock.ts';
import type { SimulatedMachine } from '../../src/simulator/machine.ts';
import type { Simulation } from '../../src/simulator/simulation.ts';
import { createSdkProbe } from './sdk-probe.ts';

const SESSION_COUNT = 10;
const CALLS_PER_SESSION = 10;
const MACHINE_COUNT = 3;
/** The same Machines for the same requests in both parts. */
const SEED = 1;
const MAX_DURATION_MS = 55_000;

const style = styleFor(process.stdout.isTTY, process.env);
const traffic = {
  probe: createSdkProbe(),
  sessions: SESSION_COUNT,
  calls: CALLS_PER_SESSION,
};

// If the demo hangs, the simulator's processes end with this one.
setTimeout(() => {
  print('The demo did not end by itself.');
  process.exit(1);
}, MAX_DURATION_MS).unref();

print(
  style.strong('One MCP server, three Machines'),
  `A tool of this server counts its calls, in the memory of its process. ${SESSION_COUNT} clients of the official SDK`,
  `open a session each and call the tool ${CALLS_PER_SESSION} times. A simulated Fly Proxy picks one of ${MACHINE_COUNT} Machines at random`,
  `for each request (seed ${SEED}). A call is good if its answer is the count of its own session.`,
  '',
);

const without = await part('Without fly-affinity, as on Fly.io today', undefined);
print(
  'A session is in the memory of one Machine, and the others have never heard of it. A client whose second',
  'request, notifications/initialized, goes astray has no session at all.',
  '',
);
let remembered = 0;
const affine = await part(
  'With fly-affinity in front of each server',
  command('../../src/main.ts', 'serve'),
  async ({ machines }) => {
    await Promise.all(machines.map((machine) => machine.restartSidecar('SIGTERM')));
    const counts = await Promise.all(machines.map(countRemembered));
    remembered = counts.reduce((sum, count) => sum + count, 0);
  },
);
print(
  'After half of the calls all sidecars were restarted, and went on from their SQLite files.',
  '',
  formatComparison({ without, affine }, style),
  '',
);
process.exitCode = conclude() ? 0 : 1;

async function part(
  title: string,
  sidecarCommand: readonly string[] | undefined,
  onHalf?: (simulation: Simulation) => Promise<void>,
): Promise<TrialResult> {
  const trial = await start(sidecarCommand);
  try {
    const result = await trial.run(traffic, onHalf);
    print(style.strong(title), formatSessions(result, trial.simulation.machines, style));
    if (sidecarCommand) explainReplays(result, trial);
    return result;
  } finally {
    await trial.close();
  }
}

function start(sidecarCommand: readonly string[] | undefined): Promise<Trial> {
  return startTrial({
    appCommand: command('mcp-server.ts'),
    sidecarCommand,
    machineCount: MACHINE_COUNT,
    port: 0,
    seed: SEED,
    env: process.env,
    sidecarEnv: {
      LOG_LEVEL: 'error',
      // Each client keeps a stream open, and the demo should not wait for that.
      DRAIN_TIMEOUT_MS: '200',
    },
    headers: {},
    clock: systemClock,
    signal: new AbortController().signal,
    onLine: (machine, source, line) => print(`  [${machine} ${source}] ${line}`),
  });
}

/** A session has more requests than calls, so it may have more replays than calls. */
function explainReplays(result: TrialResult, { simulation: { requests } }: Trial): void {
  const replayed = requests.filter(({ replays }) => replays > 0).length;
  const replayedCalls = summaryOf(result).replayed;
  print(
    `A request that reaches another Machine is replayed: its sidecar answers with the name of the right one,`,
    `and Fly Proxy repeats the request there. That happened to ${replayed} of ${requests.length} requests, ${replayedCalls} of them calls.`,
    'The others are what a client of MCP sends besides: initialize, which has no session yet and is never',
    'replayed, notifications/initialized, and the request for the event stream. So a session of 10 calls',
    'may well have 11 replays.',
  );
}

/** The sidecar's own count, before any request has reached it again. */
async function countRemembered({ ports }: SimulatedMachine): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${ports.admin}/metrics`);
  return Number(/^fly_affinity_sessions (\d+)$/m.exec(await response.text())?.[1] ?? 0);
}

function conclude(): boolean {
  const [before, after] = [summaryOf(without), summaryOf(affine)];
  const isComplete = after.calls === SESSION_COUNT * CALLS_PER_SESSION;
  const isGood = isComplete && after.lost + after.elsewhere === 0 && remembered >= SESSION_COUNT;
  print(
    isGood
      ? style.good('With fly-affinity every call reached its session.')
      : style.bad('With fly-affinity calls FAILED.'),
    before.lost > 0
      ? `Without it ${before.lost} of ${before.calls} were lost: the same server, the same client, the same Fly Proxy.`
      : 'Without it every call worked, too: this demo has shown NOTHING.',
  );
  return isGood && before.lost > 0;
}

function command(script: string, ...args: string[]): string[] {
  const path = fileURLToPath(new URL(script, import.meta.url));
  return [process.execPath, ...process.execArgv, path, ...args];
}

function print(...lines: readonly string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`);
}
