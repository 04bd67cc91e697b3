/**
 * Runs in its own thread: one scenario several times at once. The edge and the private network of
 * the simulation are in the main thread, and must not be slowed down by fifty clients.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { Target } from '../support/target.ts';
import { runCookieScenario } from './cookie.ts';
import { runGraphQlScenario } from './graphql.ts';
import { runMcpSseScenario } from './mcp-sse.ts';
import { runMcpScenario } from './mcp.ts';
import { runRpcScenario } from './rpc.ts';
import { runSignalRScenario } from './signalr.ts';
import { runSocketIoPollingScenario, runSocketIoScenario } from './socket-io.ts';
import { runSockJsScenario } from './sockjs.ts';
import { runUploadScenario } from './upload.ts';

const SCENARIOS = {
  mcp: runMcpScenario,
  'mcp-sse': runMcpSseScenario,
  rpc: runRpcScenario,
  cookie: runCookieScenario,
  upload: runUploadScenario,
  'socket.io': runSocketIoScenario,
  'socket.io-polling': runSocketIoPollingScenario,
  sockjs: runSockJsScenario,
  signalr: (target) => runSignalRScenario(target),
  'graphql-ws': runGraphQlScenario,
} as const satisfies Record<string, (target: Target) => Promise<void>>;

export type ScenarioName = keyof typeof SCENARIOS;

export interface ScenarioRun {
  readonly scenario: ScenarioName;
  readonly target: Target;
  /** The number of concurrent clients. */
  readonly times: number;
}

const { scenario, target, times } = workerData as ScenarioRun;
await Promise.all(Array.from({ length: times }, () => SCENARIOS[scenario](target)));
parentPort?.postMessage('done');
