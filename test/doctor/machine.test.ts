/** The checks of facts from a Machine. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareClock, checkClocks } from '../../src/doctor/clock-offset.ts';
import {
  checkDns,
  type DnsFacts,
  checkPeers,
  type ProbedPeerStatus,
} from '../../src/doctor/fleet.ts';
import { checkSidecar, type SidecarFacts } from '../../src/doctor/sidecar.ts';
import { checkDatabase, type DatabaseProblem } from '../../src/doctor/database.ts';
import {
  checkFile,
  type FileFacts,
  checkVolume,
  type VolumeFacts,
} from '../../src/doctor/store.ts';
import { checkApp, parseListeners } from '../../src/doctor/app.ts';
import { machineId } from '../support/ids.ts';
import { troubles } from './support.ts';

const FOUND = {
  kind: 'found',
  directory: '/data',
  isOnRootDisk: false,
  freeBytes: 900_000_000,
  writeError: undefined,
} as const;

const VOLUMES: readonly [string, VolumeFacts, boolean, string[]][] = [
  ['a volume with room', FOUND, true, []],
  ['missing', { kind: 'missing', directory: '/data' }, true, ['warning: /data does not exist.']],
  [
    'without access',
    { kind: 'unusable', directory: '/data', reason: 'EACCES' },
    true,
    ['error: The sidecar cannot use /data (EACCES).'],
  ],
  [
    "another user's",
    { ...FOUND, writeError: 'EACCES' },
    true,
    ['error: /data is not writable (EACCES).'],
  ],
  [
    "another user's, with a database",
    { ...FOUND, writeError: 'EACCES' },
    false,
    ['warning: /data is not writable (EACCES).'],
  ],
  [
    'the root disk',
    { ...FOUND, isOnRootDisk: true },
    true,
    ['warning: /data is on the root disk.'],
  ],
  [
    'the root disk, with a database',
    { ...FOUND, isOnRootDisk: true },
    false,
    ['note: /data is on the root disk.'],
  ],
  [
    'low on free space',
    { ...FOUND, freeBytes: 5_000_000 },
    true,
    ['warning: /data has only 5 MB free.'],
  ],
];

for (const [name, facts, isNeeded, expected] of VOLUMES) {
  test(`the volume: ${name}`, () => {
    assert.deepEqual(troubles(checkVolume(facts, isNeeded)), expected);
  });
}

const KNOWN = { applicationId: 7, version: 2 };
const FILES: readonly [string, FileFacts, string[]][] = [
  ['ours', { kind: 'database', applicationId: 7, version: 2 }, []],
  ['an older schema', { kind: 'database', applicationId: 7, version: 1 }, []],
  ['new', { kind: 'database', applicationId: 0, version: 0 }, []],
  ['none yet', { kind: 'absent' }, ['note: The session store /a does not exist yet.']],
  ['not SQLite', { kind: 'not-sqlite' }, ['warning: /a is not a SQLite database, or is damaged.']],
  [
    'of another program',
    { kind: 'database', applicationId: 0, version: 3 },
    ['error: /a is the database of another program.'],
  ],
  [
    'a newer schema',
    { kind: 'database', applicationId: 7, version: 3 },
    ['warning: /a has the schema of a newer version (3; this version knows 2).'],
  ],
  ['unreadable', { kind: 'unreadable', reason: 'EACCES' }, ['error: Could not read /a (EACCES).']],
];

for (const [name, facts, expected] of FILES) {
  test(`the file: ${name}`, () => {
    assert.deepEqual(troubles(checkFile('/a', facts, KNOWN)), expected);
  });
}

const PROBLEMS: readonly [DatabaseProblem, string][] = [
  [{ kind: 'old-version', version: '5.0.1', oldest: '6.2' }, 'error: db has version 5.0.1.'],
  [{ kind: 'read-only' }, 'error: db is read-only.'],
  [
    { kind: 'evicts', policy: 'allkeys-lru' },
    'warning: db evicts keys when its memory is full (allkeys-lru).',
  ],
  [
    { kind: 'may-not-create' },
    'error: db does not have the tables, and its user may not create them.',
  ],
  [{ kind: 'newer-schema', version: 9 }, 'warning: db has the schema of a newer version (9).'],
];

for (const [problem, expected] of PROBLEMS) {
  test(`a database: ${problem.kind}`, () => {
    const facts = { kind: 'usable', roundTripMs: 1, problems: [problem] } as const;
    assert.deepEqual(troubles(checkDatabase('db', facts)), [expected]);
  });
}

test('warns of a database with a long round trip', () => {
  const facts = { kind: 'usable', roundTripMs: 300, problems: [] } as const;
  assert.deepEqual(troubles(checkDatabase('db', facts)), ['warning: db responds in 300 ms.']);
});

const [SELF, OTHER] = [machineId('m1'), machineId('m2')];
const listed = <Value>(...values: Value[]): { kind: 'resolved'; values: Value[] } => ({
  kind: 'resolved',
  values,
});
const DNS: DnsFacts = {
  app: 'app',
  self: SELF,
  running: listed(SELF, OTHER),
  deployed: listed(SELF, OTHER),
  addresses: listed('fdaa::1'),
  group: undefined,
};
const NAMES: readonly [string, Partial<DnsFacts>, string[]][] = [
  ['two Machines', {}, []],
  ['no other Machine', { running: listed(SELF) }, ['note: No other Machine is running.']],
  [
    'a lookup that times out',
    { running: { kind: 'failed', code: 'ETIMEOUT' } },
    ['error: The DNS lookup of vms.app.internal failed (ETIMEOUT).'],
  ],
  [
    'a list without this Machine',
    { deployed: listed(OTHER) },
    ['error: all.vms.app.internal does not list this Machine (m1).'],
  ],
  [
    'the group of this Machine',
    { group: { name: 'web', addresses: listed('fdaa::1', 'fdaa::2') } },
    [],
  ],
  [
    'a group without this Machine',
    { group: { name: 'web', addresses: listed('fdaa::2') } },
    ['warning: The process group web does not list this Machine.'],
  ],
  [
    'an unknown group',
    { group: { name: 'web', addresses: { kind: 'failed', code: 'ENOTFOUND' } } },
    ['error: The DNS lookup of process group web failed (ENOTFOUND).'],
  ],
];

for (const [name, facts, expected] of NAMES) {
  test(`DNS: ${name}`, () => {
    assert.deepEqual(troubles(checkDns({ ...DNS, ...facts })), expected);
  });
}

const PEERS: readonly [ProbedPeerStatus, string[]][] = [
  [{ kind: 'sidecar' }, []],
  [{ kind: 'no-address' }, ['warning: m2 has no address in DNS.']],
  [
    { kind: 'no-response', code: 'ECONNREFUSED' },
    ['error: m2 does not respond on port 8081 (ECONNREFUSED).'],
  ],
  [{ kind: 'rejected' }, ['error: m2 rejects requests from this Machine (403).']],
  [
    { kind: 'not-a-sidecar', httpStatus: 404 },
    ['error: m2 does not run a compatible sidecar on port 8081 (status 404).'],
  ],
  [
    { kind: 'wrong-machine', machine: SELF },
    ['error: The sidecar at the address of m2 reports the id m1.'],
  ],
];

for (const [status, expected] of PEERS) {
  test(`the peer: ${status.kind}`, () => {
    assert.deepEqual(troubles(checkPeers([{ machine: OTHER, port: 8081, status }])), expected);
  });
}

test('reports how many Machines it did not probe', () => {
  assert.deepEqual(troubles(checkPeers([], 3)), ['note: 3 more Machines were not checked.']);
});

const ADMIN = 9091;
const HEALTHY = {
  kind: 'running',
  isReady: true,
  reason: undefined,
  store: { state: 'healthy', reason: undefined },
  fleet: 'ok',
  upstream: { state: 'up', reason: undefined },
} as const;
const SIDECARS: readonly [string, SidecarFacts, string[]][] = [
  ['healthy', HEALTHY, []],
  ['with a store in memory', { ...HEALTHY, store: { state: undefined, reason: undefined } }, []],
  [
    'whose app fails its check',
    { ...HEALTHY, upstream: { state: 'down', reason: 'the check returned 503' } },
    ['warning: The sidecar reports that the app is down: the check returned 503.'],
  ],
  [
    'not there',
    { kind: 'not-running' },
    ['warning: No sidecar runs here: nothing listens on ADMIN_PORT (9091).'],
  ],
  [
    'on an unknown port',
    { kind: 'port-unknown' },
    ['note: Could not determine whether a sidecar runs.'],
  ],
  [
    'no-response',
    { kind: 'no-response', code: 'ECONNRESET' },
    ['error: The listener on ADMIN_PORT (9091) does not respond (ECONNRESET).'],
  ],
  [
    'another program',
    { kind: 'not-a-sidecar', status: 200 },
    ['error: Another program listens on ADMIN_PORT (9091); it returned status 200.'],
  ],
  [
    'draining',
    { ...HEALTHY, isReady: false, reason: 'draining' },
    ['warning: The sidecar is not ready (draining).'],
  ],
  [
    'with a failing store',
    { ...HEALTHY, store: { state: 'degraded', reason: 'the disk is full' } },
    ['warning: The store of the sidecar is degraded: the disk is full.'],
  ],
  [
    'without a list of Machines',
    { ...HEALTHY, fleet: 'failing' },
    ['warning: The sidecar cannot read the list of Machines.'],
  ],
];

for (const [name, facts, expected] of SIDECARS) {
  test(`the sidecar: ${name}`, () => {
    assert.deepEqual(troubles(checkSidecar(facts, ADMIN)), expected);
  });
}

const request = { atMs: 1_000_000, roundTripMs: 200 };
const CLOCKS: readonly [string, number, number, string[]][] = [
  ['the same', 1_000_100, 0, []],
  ['truncated to seconds', 1_000_000, 1_000, []],
  ['ahead', 1_060_100, 0, ['warning: The clock is 60 s behind that of m2.']],
  ['behind', 940_100, 0, ['warning: The clock is 60 s ahead of that of m2.']],
  ['at the maximum offset', 1_005_200, 0, []],
  ['beyond the maximum offset', 1_005_201, 0, ['warning: The clock is 5 s behind that of m2.']],
];

for (const [name, theirMs, precisionMs, expected] of CLOCKS) {
  test(`the clock of a peer: ${name}`, () => {
    assert.deepEqual(
      troubles(checkClocks([compareClock('m2', theirMs, precisionMs, request)])),
      expected,
    );
  });
}

test('reports that the clock was not checked', () => {
  assert.deepEqual(troubles(checkClocks([])), ['note: The clock was not checked.']);
});

const ORIGIN = 'http://127.0.0.1:3000';
const UPSTREAMS: readonly [string, string | undefined, string[] | undefined, string[]][] = [
  ['on loopback', undefined, ['127.0.0.1', '::1'], []],
  [
    'not there',
    'ECONNREFUSED',
    [],
    ['error: The app does not respond at http://127.0.0.1:3000 (ECONNREFUSED).'],
  ],
  [
    'on every address',
    undefined,
    ['::'],
    ['warning: The app listens on ::, not on loopback only.'],
  ],
  [
    'with unknown listeners',
    undefined,
    undefined,
    ['note: Could not determine the addresses on which the app listens.'],
  ],
];

for (const [name, connectError, listeners, expected] of UPSTREAMS) {
  test(`the app: ${name}`, () => {
    assert.deepEqual(troubles(checkApp({ origin: ORIGIN, connectError, listeners })), expected);
  });
}

test('parses the socket table of the kernel', () => {
  const text = `  sl  local_address rem_address   st tx_queue rx_queue
   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000
   1: 00000000:0BB8 00000000:0000 0A 00000000:00000000
   2: 0100007F:0BB8 0100007F:9C40 01 00000000:00000000
   3: 0100007F:1F90 00000000:0000 0A 00000000:00000000
   4: 00000000000000000000000001000000:0BB8 00000000000000000000000000000000:0000 0A 0:0
   5: 00000000000000000000000000000000:0BB8 00000000000000000000000000000000:0000 0A 0:0
   6: 0000000000000000FFFF00000100007F:0BB8 00000000000000000000000000000000:0000 0A 0:0
   7: 0000AAFD000000000000000002000000:0BB8 00000000000000000000000000000000:0000 0A 0:0
   `;
  assert.deepEqual(parseListeners(text, 3000), [
    '127.0.0.1',
    '0.0.0.0',
    '::1',
    '::',
    '::ffff:127.0.0.1',
    'fdaa::2',
  ]);
});
