/** Cost of a small WebSocket message on its way to the app and back. */
import { WEBSOCKET_PATH } from './answers.ts';
import type { Bench } from './bench.ts';
import { openSessions, withCandidates, type Candidate, type CandidateName } from './candidates.ts';
import { cpuRatiosTo } from './result.ts';
import { requestsPerSecond, takeTurns, type Messages } from './rounds.ts';
import { TARGETS } from './targets.ts';

const NAMES: readonly CandidateName[] = ['direct', 'http-proxy', 'nginx', 'sidecar'];
const MESSAGE_BYTES = 64;

/** Compared by CPU time: with such small messages, the load generator and the app are the limit. */
export const benchWebSocket: Bench = async ({ effort, load, workspace }) => {
  const connections = effort.webSockets;
  const messagesFor = async (candidate: Candidate): Promise<Messages> => ({
    kind: 'messages',
    path: WEBSOCKET_PATH,
    connections,
    sessionIds: await openSessions(candidate, connections),
    messageBytes: MESSAGE_BYTES,
  });
  const turns = await withCandidates(NAMES, { workspace }, (candidates) =>
    takeTurns(candidates, messagesFor, load, effort),
  );
  const measurements = turns.map(requestsPerSecond);
  return {
    title: `WebSocket messages of ${MESSAGE_BYTES} bytes, echoed, ${connections} WebSockets`,
    unit: 'messages/s',
    perUnit: 'message',
    measurements,
    ratios: cpuRatiosTo(measurements, 'sidecar', TARGETS.websocket),
  };
};
