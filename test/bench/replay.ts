/**
 * The response to a request whose session lives on another Machine: decided from a SQLite file full
 * of such sessions, without a call upstream. Each request has a different id.
 */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import {
  parseMachineId,
  parseSessionId,
  sessionKeyOf,
  type MachineId,
  type SessionId,
} from '../../src/session.ts';
import { systemClock } from '../../src/clock.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import { REPLAY_PATH } from './answers.ts';
import type { Bench } from './bench.ts';
import { withCandidates } from './candidates.ts';
import { ratiosTo } from './result.ts';
import { requestsPerSecond, takeTurns, type Requests } from './rounds.ts';
import { TARGETS } from './targets.ts';

const HOUR_MS = 3_600_000;
/** Written together: each group is one commit. */
const GROUP = 1_000;

export const benchReplay: Bench = async ({ effort, load, workspace }) => {
  const sessionIds = Array.from({ length: effort.storedSessions }, () => randomUUID());
  const path = join(workspace.directory, 'replay.sqlite');
  await storeSessions(path, sessionIds, 'm2');
  const requests: Requests = {
    kind: 'requests',
    method: 'GET',
    path: REPLAY_PATH,
    bodyBytes: 0,
    connections: effort.connections,
    sessionIds,
    expects: { statusLine: 'HTTP/1.1 307 ', text: 'fly-replay: instance=m2' },
  };
  // No process listens there: a replay queries no peer.
  const sidecarEnv = { SESSION_STORE_PATH: path, FLEET: 'm2@127.0.0.1:9' };
  const turns = await withCandidates(
    ['floor', 'sidecar'],
    { workspace, sidecarEnv },
    (candidates) => takeTurns(candidates, () => Promise.resolve(requests), load, effort),
  );
  const measurements = turns.map(requestsPerSecond);
  return {
    title: `Replay out of SQLite with ${effort.storedSessions} sessions, ${effort.connections} connections`,
    unit: 'requests/s',
    perUnit: 'request',
    measurements,
    ratios: ratiosTo(measurements, 'sidecar', TARGETS.replay),
  };
};

async function storeSessions(path: string, ids: readonly string[], owner: string): Promise<void> {
  const store = await openSqliteStore({
    path,
    clock: systemClock,
    limits: { maxSessions: 2 * ids.length, maxAgeMs: 0 },
    retryCount: 3,
    retryDelayMs: 100,
    random: Math.random,
  });
  const machine = parsed(parseMachineId(owner));
  for (let i = 0; i < ids.length; i += GROUP) {
    const group = ids.slice(i, i + GROUP).map((id) => {
      const key = sessionKeyOf(parsed(parseSessionId(id)));
      return store.upsert({ key, machine, origin: 'learned', generation: 1, ttlMs: HOUR_MS });
    });
    await Promise.all(group);
  }
  await store.close();
}

function parsed<Id extends MachineId | SessionId>(id: Id | undefined): Id {
  if (id === undefined) throw new Error('not well-formed');
  return id;
}
