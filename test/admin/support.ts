import type { TestContext } from 'node:test';
import { startAdmin, type Admin, type AdminOptions } from '../../src/admin/admin.ts';
import type { Readiness } from '../../src/admin/health.ts';
import type { Status } from '../../src/admin/status.ts';
import { createDraining } from '../../src/routing/placement.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { createMemoryLog, type MemoryLog } from '../support/log.ts';

export const TOKEN = 'a-token-of-an-operator';
export const AUTHORIZED = { authorization: `Bearer ${TOKEN}` };
export const READY: Readiness = { ready: true, store: { kind: 'memory' }, fleet: { kind: 'off' } };

/** Of a sidecar that has just started. */
export const STATUS: Status = {
  ...READY,
  ...{ machine: 'a', app: undefined, region: undefined, processGroup: undefined, version: 'test' },
  ...{ startedAt: 0, now: 0, drain: 'taking', notAccepting: undefined, detail: undefined },
  requests: {
    ...{ open: 0, openStreams: [], perSecond: undefined, decisions: [], ofClients: [] },
    ...{ replaysFailed: [], lost: [], unavailable: [] },
  },
  sessions: { byMachine: undefined, limit: 0, conflicts: 0, released: [] },
  ...{ machines: [], protocols: {}, missingPresets: [], storeMetrics: undefined },
  events: { ofSessions: [], others: [] },
};

interface OpenedAdmin {
  readonly admin: Admin;
  readonly url: string;
  readonly clock: TestClock;
  readonly log: MemoryLog;
}

/** An admin listener whose token is {@link TOKEN}, with empty components. */
export async function openAdmin(
  t: TestContext,
  parts: Partial<AdminOptions> & { readonly clock?: TestClock } = {},
): Promise<OpenedAdmin> {
  const { clock = createTestClock() } = parts;
  const log = createMemoryLog();
  const admin = await startAdmin({
    ...{ host: '127.0.0.1', port: 0, token: TOKEN, random: () => 0.5, logger: log.logger },
    readiness: () => READY,
    status: () => Promise.resolve(STATUS),
    metrics: { render: () => Promise.resolve('up 1\n'), contentType: 'text/x-metrics' },
    store: createMemoryStore({ clock, limits: { maxSessions: 1_000_000, maxAgeMs: 0 } }),
    onSessionChanged: () => undefined,
    draining: createDraining(),
    countOpenRequests: () => 0,
    countOwnSessions: () => Promise.resolve(0),
    explain: () => Promise.resolve({}),
    ...parts,
    clock,
  });
  t.after(() => admin.stop());
  return { admin, url: `http://127.0.0.1:${admin.port}`, clock, log };
}
