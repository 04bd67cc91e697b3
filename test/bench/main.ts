/**
 * `npm run bench [-- NAME... --short --json]`: the sidecar beside a plain node:http server, the app
 * itself, `http-proxy` and nginx, in one run, since only ratios are meaningful on a shared machine.
 * A missed target is printed and fails nothing; a bench that can't run ends with code 1.
 */
import { parseArgs } from 'node:util';
import type { Bench, Stage } from './bench.ts';
import { createWorkspace } from './compiled.ts';
import { DISCOVERY_BENCHES } from './discovery.ts';
import { FULL, SHORT } from './effort.ts';
import { benchConnections, benchStreams } from './held-memory.ts';
import { benchIdle } from './idle-memory.ts';
import { benchLatency } from './latency.ts';
import { startLoad } from './load.ts';
import { neededForNginx } from './nginx.ts';
import { isPinning } from './pinned.ts';
import { benchReplay } from './replay.ts';
import type { BenchResult } from './result.ts';
import { createScope, type Scope } from './scope.ts';
import { benchDeadStore } from './store-dead.ts';
import { benchEventLoop } from './store-event-loop.ts';
import { benchLookup } from './store-lookup.ts';
import { benchOpening } from './store-opening.ts';
import { benchPostgres, benchRedis } from './store-remote.ts';
import { benchStoreSize } from './store-size.ts';
import { benchTouches } from './store-touches.ts';
import { benchWrites } from './store-writes.ts';
import { formatResult } from './table.ts';
import { benchGet, benchLarge, benchPost, benchUpload } from './throughput.ts';
import { benchWebSocket } from './websocket.ts';

type Benches = Readonly<Record<string, readonly Bench[]>>;

const STORE_BENCHES: Benches = {
  'store-lookup': [benchLookup],
  'store-writes': [benchWrites],
  'store-event-loop': [benchEventLoop],
  'store-opening': [benchOpening],
  'store-size': [benchStoreSize],
  'store-redis': [benchRedis],
  'store-postgres': [benchPostgres],
  'store-touches': [benchTouches],
  'store-dead': [benchDeadStore],
};

/** The benches that run by default. */
const BENCHES: Benches = {
  get: [benchGet],
  post: [benchPost],
  replay: [benchReplay],
  latency: [benchLatency],
  large: [benchLarge],
  upload: [benchUpload],
  websocket: [benchWebSocket],
  sse: [benchStreams],
  idle: [benchConnections, benchIdle],
  discovery: Object.values(DISCOVERY_BENCHES).flat(),
  store: Object.values(STORE_BENCHES).flat(),
};

const NAMED: Benches = { ...BENCHES, ...STORE_BENCHES, ...DISCOVERY_BENCHES };

/** Closes what a bench has opened, when it must end early. */
const END_TIMEOUT_MS = 10_000;

process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { short: { type: 'boolean' }, json: { type: 'boolean' } },
  });
  const names = positionals.length > 0 ? positionals : Object.keys(BENCHES);
  const unknown = names.filter((name) => !(name in NAMED));
  if (unknown.length > 0) {
    console.error(
      `No such bench: ${unknown.join(', ')}. There are ${Object.keys(NAMED).join(', ')}.`,
    );
    return 1;
  }
  if (!isPinning) console.error('Without taskset and a second core, figures vary more.');
  const { found: nginx, missing, howToGet } = neededForNginx;
  if (nginx === undefined)
    console.error(`Not measured: nginx. No ${missing}; get it with: ${howToGet}`);
  const benches = names.flatMap((name) => NAMED[name] ?? []);
  const { results, failures } = await runAll(benches, values.short === true, (result) => {
    if (!values.json) console.log(formatResult(result));
  });
  if (values.json) console.log(JSON.stringify(results, undefined, 2));
  return failures > 0 ? 1 : 0;
}

async function runAll(
  benches: readonly Bench[],
  isShort: boolean,
  onResult: (result: BenchResult) => void,
): Promise<{ results: BenchResult[]; failures: number }> {
  const whole = createScope();
  endEarly(whole);
  const results: BenchResult[] = [];
  try {
    const workspace = await createWorkspace(whole);
    const load = startLoad();
    whole.after(() => load.stop());
    const stage = { effort: isShort ? SHORT : FULL, load, workspace };
    for (const bench of benches) {
      if (whole.isEnding()) break;
      const result = await run(bench, stage, whole);
      if (!result) continue;
      results.push(result);
      onResult(result);
    }
  } catch (error) {
    if (!whole.isEnding()) throw error;
  } finally {
    await whole.end();
  }
  return { results, failures: benches.length - results.length };
}

/** Undefined if it did not run, which is printed. */
async function run(
  bench: Bench,
  stage: Omit<Stage, 'after'>,
  whole: Scope,
): Promise<BenchResult | undefined> {
  const scope = createScope();
  // For a run that ends early.
  whole.after(() => scope.end());
  try {
    const result = await bench({ ...stage, after: scope.after });
    // Otherwise what it has measured may already have been closed.
    return whole.isEnding() ? undefined : result;
  } catch (error) {
    if (!whole.isEnding()) console.error(`\n${bench.name} did not run:`, error);
    return undefined;
  } finally {
    await scope.end();
  }
}

/**
 * Benches in progress then fail, as their resources are closed. A second signal ends the process
 * immediately.
 */
function endEarly(whole: Scope): void {
  const end = (): void => {
    setTimeout(() => process.exit(1), END_TIMEOUT_MS).unref();
    void whole.end();
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, end);
  process.once('uncaughtException', (error) => {
    console.error(error);
    end();
  });
}
