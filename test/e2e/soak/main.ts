/**
 * `npm run soak`: minutes of mixed load on two sidecars whose apps are killed and restarted, and
 * then a check for leaks. Ends with code 1 if a check fails. See CONTRIBUTING.
 */
import { createScope, type Scope } from '../../bench/scope.ts';
import { performRun } from './run.ts';
import { readSettings } from './settings.ts';
import { createStage } from './stage.ts';
import { reportOf } from './report.ts';
import { checkRun } from './verdict.ts';

const INTERRUPTED = 130;

process.exitCode = await main();

async function main(): Promise<number> {
  const scope = createScope();
  process.once('SIGINT', () => void scope.end().then(() => process.exit(INTERRUPTED)));
  try {
    return (await soak(scope)) ? 0 : 1;
  } catch (error) {
    if (!scope.isEnding()) console.error(error);
    return 1;
  } finally {
    await scope.end();
  }
}

/** Resolves with whether all checks have passed. */
async function soak(scope: Scope): Promise<boolean> {
  const settings = readSettings(process.env);
  const { seed, warmUpMs, loadMs } = settings;
  const stage = await createStage(scope, settings.isDirect);
  console.log(`seed ${seed}: ${warmUpMs / 1_000} s to warm up, then ${loadMs / 1_000} s of load`);
  console.log(`the logs are in ${stage.directory}`);
  const run = await performRun(settings, stage);
  const result = await checkRun(run);
  console.log(reportOf(run, result).join('\n'));
  const isMet = result.checks.every((check) => check.isMet);
  if (!isMet) stage.keepDirectory();
  console.log(isMet ? `\nall checks passed with seed ${seed}` : `\nFAILED with seed ${seed}`);
  return isMet;
}
