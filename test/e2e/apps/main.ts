/**
 * The app of the end-to-end tests: stateful servers of several kinds in one process, with their
 * sessions in its memory. It does not know its Machine's peers, but each response names its own
 * Machine.
 */
import { createCookieDoor } from './cookie.ts';
import { createGraphQlDoor } from './graphql.ts';
import { createMcpSseDoor } from './mcp-sse.ts';
import { createMcpDoor } from './mcp.ts';
import { createRpcDoor } from './rpc.ts';
import { serveDoors } from './serve-doors.ts';
import { createSignalRDoor } from './signalr.ts';
import { createSocketIoDoor } from './socket-io.ts';
import { createSockJsDoor } from './sockjs.ts';
import { createVisitsDoor } from './visits.ts';

serveDoors([
  createMcpDoor(),
  createMcpSseDoor(),
  createRpcDoor(),
  createCookieDoor(),
  createSocketIoDoor(),
  createSockJsDoor(),
  createSignalRDoor(),
  createGraphQlDoor(),
  createVisitsDoor(),
]);
