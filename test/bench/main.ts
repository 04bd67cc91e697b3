/**
 * `npm run bench [-- NAME... --short --json]`: the sidecar beside a bare node:http server, the app
 * itself and `http-proxy`, in one run, since only ratios mean anything on a machine that others use
 * too. A target that is missed is said and fails nothing; a bench that can't run ends with code 1.
 */
import { parseArgs } from 'node:util';
import type { Bench } from './bench.ts';
import { createWorkspace } from './compiled.ts';
import { FULL, SHORT } from './effort.ts';
import { benchLatency } from './latency.ts';
import { startLoad } from './load.ts';
import { isPinning } from './pinned.ts';
import { benchReplay } from './replay.ts';
import type { BenchResult } from './result.ts';
import { benchStreams } from './sse.ts';
import { benchEventLoop, benchLookup, benchStoreSize } from './store.ts';
import { formatResult } from './table.ts';
import { benchGet, benchLarge, benchPost } from './throughput.ts';

const BENCHES: Readonly<Record<string, readonly Bench[]>> = {
  get: [benchGet],
  post: [benchPost],
  replay: [benchReplay],
  latency: [benchLatency],
  large: [benchLarge],
  sse: [benchStreams],
  store: [benchLookup, benchEventLoop, benchStoreSize],
};

process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { short: { type: 'boolean' }, json: { type: 'boolean' } },
  });
  const names = positionals.length > 0 ? positionals : Object.keys(BENCHES);
  const unknown = names.filter((name) => !(name in BENCHES));
  if (unknown.length > 0) {
    console.error(
      `No such bench: ${unknown.join(', ')}. There are ${Object.keys(BENCHES).join(', ')}.`,
    );
    return 1;
  }
  if (!isPinning) console.error('Without taskset and a second core, figures vary more.');
  const benches = names.flatMap((name) => BENCHES[name] ?? []);
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
  const workspace = await createWorkspace();
  const load = startLoad();
  const stage = { effort: isShort ? SHORT : FULL, load, workspace };
  const results: BenchResult[] = [];
  try {
    for (const bench of benches) {
      const result = await bench(stage).catch((error: unknown) => {
        console.error(`\n${bench.name} did not run:`, error);
      });
      if (!result) continue;
      results.push(result);
      onResult(result);
    }
  } finally {
    await load.stop();
    await workspace.remove();
  }
  return { results, failures: benches.length - results.length };
}
