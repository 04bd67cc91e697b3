/** What is made of the facts that were found on a Machine. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareClock, checkClocks } from '../../src/doctor/clock-offset.ts';
import { checkDns, type DnsFacts } from '../../src/doctor/dns.ts';
import { checkPeers, type PeerAnswer } from '../../src/doctor/peers.ts';
import { checkSidecar, type SidecarFacts } from '../../src/doctor/sidecar.ts';
import {
  checkDatabase,
  checkFile,
  type DatabaseRemark,
  type FileFacts,
} from '../../src/doctor/store.ts';
import { checkApp, parseListeners } from '../../src/doctor/app.ts';
import { checkVolume, type VolumeFacts } from '../../src/doctor/volume.ts';
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
  ['none', { kind: 'missing', directory: '/data' }, true, ['warning: /data is not there.']],
  [
    'one that may not be looked at',
    { kind: 'unusable', directory: '/data', reason: 'EACCES' },
    true,
    ['error: /data can not be used (EACCES).'],
  ],
  [
    "another user's",
    { ...FOUND, writeError: 'EACCES' },
    true,
    ['error: Nothing can be written to /data (EACCES).'],
  ],
  [
    "another user's, beside a database",
    { ...FOUND, writeError: 'EACCES' },
    false,
    ['warning: Nothing can be written to /data (EACCES).'],
  ],
  [
    'the root disk',
    { ...FOUND, isOnRootDisk: true },
    true,
    ['warning: /data is on the root disk.'],
  ],
  [
    'the root disk, beside a database',
    { ...FOUND, isOnRootDisk: true },
    false,
    ['note: /data is on the root disk.'],
  ],
  ['little room', { ...FOUND, freeBytes: 5_000_000 }, true, ['warning: /data has 5 MB left.']],
];

for (const [name, facts, isNeeded, expected] of VOLUMES) {
  test(`the volume: ${name}`, () => {
    assert.deepEqual(troubles(checkVolume(facts, isNeeded)), expected);
  });
}

const KNOWN = { applicationId: 7, version: 2 };
const FILES: readonly [string, FileFacts, string[]][] = [
  ['ours', { kind: 'database', applicationId: 7, version: 2 }, []],
  ['one of before', { kind: 'database', applicationId: 7, version: 1 }, []],
  ['just made', { kind: 'database', applicationId: 0, version: 0 }, []],
  ['none yet', { kind: 'absent' }, ['note: There is no session store /a yet.']],
  [
    'no database',
    { kind: 'no-database' },
    ['warning: /a is no SQLite database, or a damaged one.'],
  ],
  [
    'not ours',
    { kind: 'database', applicationId: 0, version: 3 },
    ["error: /a is another program's database."],
  ],
  [
    'a newer one',
    { kind: 'database', applicationId: 7, version: 3 },
    ['warning: /a was written by a newer version (schema 3, and this knows 2).'],
  ],
  ['unreadable', { kind: 'unreadable', reason: 'EACCES' }, ['error: /a can not be read (EACCES).']],
];

for (const [name, facts, expected] of FILES) {
  test(`the file: ${name}`, () => {
    assert.deepEqual(troubles(checkFile('/a', facts, KNOWN)), expected);
  });
}

const REMARKS: readonly [DatabaseRemark, string][] = [
  [{ kind: 'old-version', version: '5.0.1', oldest: '6.2' }, 'error: db is of version 5.0.1.'],
  [{ kind: 'read-only' }, 'error: db takes no writes.'],
  [
    { kind: 'evicts', policy: 'allkeys-lru' },
    'warning: db throws keys away when it is full (allkeys-lru).',
  ],
  [
    { kind: 'may-not-create' },
    'error: The tables are not in db, and its user may not create them.',
  ],
  [{ kind: 'newer-schema', version: 9 }, 'warning: db was set up by a newer version (schema 9).'],
];

for (const [remark, expected] of REMARKS) {
  test(`a database: ${remark.kind}`, () => {
    const facts = { kind: 'answers', roundTripMs: 1, remarks: [remark] } as const;
    assert.deepEqual(troubles(checkDatabase('db', facts)), [expected]);
  });
}

test('a database that is far away is slow', () => {
  const facts = { kind: 'answers', roundTripMs: 300, remarks: [] } as const;
  assert.deepEqual(troubles(checkDatabase('db', facts)), ['warning: db answers in 300 ms.']);
});

const [SELF, OTHER] = [machineId('m1'), machineId('m2')];
const listed = <Value>(...values: Value[]): { kind: 'answered'; values: Value[] } => ({
  kind: 'answered',
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
  ['nobody else', { running: listed(SELF) }, ['note: This is the only Machine that runs.']],
  [
    'no answer',
    { running: { kind: 'failed', code: 'ETIMEOUT' } },
    ['error: vms.app.internal has no answer (ETIMEOUT).'],
  ],
  [
    'a list without us',
    { deployed: listed(OTHER) },
    ['error: all.vms.app.internal does not list this Machine (m1).'],
  ],
  ['our group', { group: { name: 'web', addresses: listed('fdaa::1', 'fdaa::2') } }, []],
  [
    'a group without us',
    { group: { name: 'web', addresses: listed('fdaa::2') } },
    ['warning: The process group web does not list this Machine.'],
  ],
  [
    'no such group',
    { group: { name: 'web', addresses: { kind: 'failed', code: 'ENOTFOUND' } } },
    ['error: The process group web has no answer (ENOTFOUND).'],
  ],
];

for (const [name, facts, expected] of NAMES) {
  test(`the names: ${name}`, () => {
    assert.deepEqual(troubles(checkDns({ ...DNS, ...facts })), expected);
  });
}

const PEERS: readonly [PeerAnswer, string[]][] = [
  [{ kind: 'sidecar' }, []],
  [{ kind: 'no-address' }, ['warning: m2 has no address.']],
  [
    { kind: 'silent', code: 'ECONNREFUSED' },
    ['error: m2 does not answer on port 8081 (ECONNREFUSED).'],
  ],
  [{ kind: 'refused' }, ['error: m2 refuses this Machine (403).']],
  [
    { kind: 'stranger', status: 404 },
    ['error: What answers at m2 on port 8081 is no sidecar of this version (404).'],
  ],
  [
    { kind: 'other', machine: SELF },
    ['error: The sidecar at the address of m2 says that it is m1.'],
  ],
];

for (const [answer, expected] of PEERS) {
  test(`a Machine: ${answer.kind}`, () => {
    assert.deepEqual(troubles(checkPeers([{ machine: OTHER, port: 8081, answer }])), expected);
  });
}

test('how many Machines were not asked is said', () => {
  assert.deepEqual(troubles(checkPeers([], 3)), ['note: 3 more Machines were not asked.']);
});

const ADMIN = 9091;
const WELL = {
  kind: 'answers',
  isReady: true,
  reason: undefined,
  store: { state: 'healthy', reason: undefined },
  fleet: 'ok',
  upstream: { state: 'up', reason: undefined },
} as const;
const SIDECARS: readonly [string, SidecarFacts, string[]][] = [
  ['well', WELL, []],
  ['in memory', { ...WELL, store: { state: undefined, reason: undefined } }, []],
  [
    'before an app that fails its check',
    { ...WELL, upstream: { state: 'down', reason: 'the check returned 503' } },
    ['warning: The app is down, in its eyes: the check returned 503.'],
  ],
  [
    'not there',
    { kind: 'not-there' },
    ['warning: No sidecar runs here: nothing listens on ADMIN_PORT (9091).'],
  ],
  [
    'on a port that is not known',
    { kind: 'port-unknown' },
    ['note: Whether a sidecar runs can not be told.'],
  ],
  [
    'silent',
    { kind: 'silent', code: 'ECONNRESET' },
    ['error: What listens on ADMIN_PORT (9091) does not answer (ECONNRESET).'],
  ],
  [
    'something else',
    { kind: 'stranger', status: 200 },
    ['error: What answers on ADMIN_PORT (9091) is no sidecar (200).'],
  ],
  [
    'draining',
    { ...WELL, isReady: false, reason: 'draining' },
    ['warning: The sidecar is not ready (draining).'],
  ],
  [
    'with a store that fails',
    { ...WELL, store: { state: 'degraded', reason: 'the disk is full' } },
    ['warning: Its store is degraded: the disk is full.'],
  ],
  [
    'without a list of Machines',
    { ...WELL, fleet: 'failing' },
    ['warning: It can not read the list of Machines.'],
  ],
];

for (const [name, facts, expected] of SIDECARS) {
  test(`the sidecar: ${name}`, () => {
    assert.deepEqual(troubles(checkSidecar(facts, ADMIN)), expected);
  });
}

const asked = { atMs: 1_000_000, roundTripMs: 200 };
const CLOCKS: readonly [string, number, number, string[]][] = [
  ['the same', 1_000_100, 0, []],
  ['cut to seconds', 1_000_000, 1_000, []],
  ['ahead', 1_060_100, 0, ['warning: The clock is 60 s behind that of m2.']],
  ['behind', 940_100, 0, ['warning: The clock is 60 s ahead of that of m2.']],
  ['as far apart as may be', 1_005_200, 0, []],
  ['further apart than may be', 1_005_201, 0, ['warning: The clock is 5 s behind that of m2.']],
];

for (const [name, theirMs, precisionMs, expected] of CLOCKS) {
  test(`the clock of another: ${name}`, () => {
    assert.deepEqual(
      troubles(checkClocks([compareClock('m2', theirMs, precisionMs, asked)])),
      expected,
    );
  });
}

test('a clock that was compared with nothing is said to be so', () => {
  assert.deepEqual(troubles(checkClocks([])), ['note: The clock was not compared.']);
});

const ORIGIN = 'http://127.0.0.1:3000';
const UPSTREAMS: readonly [string, string | undefined, string[] | undefined, string[]][] = [
  ['on loopback', undefined, ['127.0.0.1', '::1'], []],
  [
    'not there',
    'ECONNREFUSED',
    [],
    ['error: Nothing answers at http://127.0.0.1:3000 (ECONNREFUSED).'],
  ],
  [
    'on every address',
    undefined,
    ['::'],
    ['warning: The app listens on ::, and not on loopback alone.'],
  ],
  [
    'in a place that can not be looked at',
    undefined,
    undefined,
    ['note: On which addresses the app listens can not be told here.'],
  ],
];

for (const [name, connectError, listeners, expected] of UPSTREAMS) {
  test(`the app: ${name}`, () => {
    assert.deepEqual(troubles(checkApp({ origin: ORIGIN, connectError, listeners })), expected);
  });
}

test("the kernel's table of sockets is read", () => {
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
