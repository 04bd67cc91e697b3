/**
 * Runs in a thread of its own: tells one story several times at once. The edge and the private
 * network of the simulation are in the main thread; what fifty clients do must not slow them down.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { Target } from '../support/target.ts';
import { tellCookieStory } from './cookie.ts';
import { tellGraphQlStory } from './graphql.ts';
import { tellMcpSseStory } from './mcp-sse.ts';
import { tellMcpStory } from './mcp.ts';
import { tellRpcStory } from './rpc.ts';
import { tellSignalRStory } from './signalr.ts';
import { tellSocketIoPollingStory, tellSocketIoStory } from './socket-io.ts';
import { tellSockJsStory } from './sockjs.ts';
import { tellUploadStory } from './upload.ts';

const STORIES = {
  mcp: tellMcpStory,
  'mcp-sse': tellMcpSseStory,
  rpc: tellRpcStory,
  cookie: tellCookieStory,
  upload: tellUploadStory,
  'socket.io': tellSocketIoStory,
  'socket.io-polling': tellSocketIoPollingStory,
  sockjs: tellSockJsStory,
  signalr: tellSignalRStory,
  'graphql-ws': tellGraphQlStory,
} as const satisfies Record<string, (target: Target) => Promise<void>>;

export type StoryName = keyof typeof STORIES;

export interface Telling {
  readonly story: StoryName;
  readonly target: Target;
  /** How many clients there are, all at once. */
  readonly times: number;
}

const { story, target, times } = workerData as Telling;
await Promise.all(Array.from({ length: times }, () => STORIES[story](target)));
parentPort?.postMessage('told');
