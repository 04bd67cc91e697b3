/** Whether the sidecars' counts and logs match the requests and responses of the clients. */
import { readFile } from 'node:fs/promises';
import type { Ledger } from '../ledger.ts';
import type { Stage } from '../stage.ts';
import { readMetrics, readReadiness } from './admin.ts';
import { atMost, none, type Check } from './check.ts';
import { faultsOf, readRequestLog, type RequestLog } from './request-log.ts';

/** The counts of the sidecars, for the table. */
interface RequestFigures {
  readonly checks: readonly Check[];
  /** A line for each Machine. */
  readonly lines: readonly string[];
}

export async function checkRequests(stage: Stage, ledger: Ledger): Promise<RequestFigures> {
  const logs = await Promise.all(
    stage.sidecars.map(({ name, logFile }) => readRequestLog(name, logFile)),
  );
  const figures = stage.sidecars.map(async ({ name, ports, errorFile, ending }) => {
    const log = logs.find(({ machine }) => machine === name);
    if (!log) throw new Error(`there is no log of ${name}`);
    const others = logs.filter((other) => other !== log);
    const sent = { requests: ledger.requestsOf(name), malformed: ledger.malformedOf(name) };
    const errorOutput = (await readFile(errorFile, 'utf8')).split('\n').filter(Boolean);
    const checks = [
      none(`${name}: error lines in the log`, log.errors),
      none(`${name}: lines on standard error`, errorOutput),
      none(`${name}: requests and log lines that do not agree`, faultsOf(log, sent, others)),
    ];
    const counted = ending === undefined ? await checkMetrics(name, ports.admin, log, ledger) : [];
    return {
      checks: [...checks, ...counted],
      line: lineOf(log, ledger),
    };
  });
  const all = await Promise.all(figures);
  return { checks: all.flatMap(({ checks }) => checks), lines: all.map(({ line }) => line) };
}

async function checkMetrics(
  name: string,
  adminPort: number,
  log: RequestLog,
  ledger: Ledger,
): Promise<readonly Check[]> {
  const [metrics, readiness] = await Promise.all([
    readMetrics(adminPort),
    readReadiness(adminPort),
  ]);
  const decided = metrics.sum('fly_affinity_requests_total');
  const answered = metrics.sum('fly_affinity_responses_total');
  // A client may disconnect before its request is decided or logged; a request to an app that is
  // down is decided twice; some malformed requests have no line.
  const unsure = unansweredOf(name, ledger) + ledger.malformedOf(name) + twiceDecided(log);
  return [
    none(`${name}: not ready`, readiness.isReady ? [] : [readiness.text]),
    atMost(
      `${name}: requests_total off the log lines`,
      Math.abs(decided - log.requestCount),
      unsure,
    ),
    atMost(
      `${name}: responses_total off the log lines`,
      Math.abs(answered - log.requestCount),
      unsure,
    ),
  ];
}

function unansweredOf(machine: string, ledger: Ledger): number {
  return [...ledger.requestsOf(machine).values()].filter((status) => status === undefined).length;
}

function twiceDecided(log: RequestLog): number {
  return [...log.requests.values()].flat().filter(({ isElsewhere }) => isElsewhere).length;
}

function lineOf(log: RequestLog, ledger: Ledger): string {
  const warnings = [...log.warnings].map(([message, count]) => `${count} "${message}"`);
  const decisions = [...log.decisions].map(([decision, count]) => `${count} ${decision}`);
  const sent = ledger.requestsOf(log.machine).size;
  return (
    `${log.machine}: ${sent} requests sent, ${sent - unansweredOf(log.machine, ledger)} answered, ` +
    `${ledger.malformedOf(log.machine)} malformed, ${log.requestCount} log lines ` +
    `(${decisions.join(', ')}); ` +
    `warnings: ${warnings.join(', ') || 'none'}`
  );
}
