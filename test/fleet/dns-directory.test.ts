import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { Directory, DirectoryStatus } from '../../src/fleet/directory.ts';
import { createDnsDirectory } from '../../src/fleet/dns-directory.ts';
import { createDnsResolver } from '../../src/fleet/dns-resolver.ts';
import { startDnsServer } from '../../src/simulator/dns.ts';
import type { Liveness } from '../../src/fleet/liveness.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { startScriptedDns, type ScriptedDns } from '../support/dns.ts';
import { machineId } from '../support/ids.ts';
import { createTestLiveness } from '../support/liveness.ts';

const [SELF, B, C] = [machineId('aa'), machineId('bb'), machineId('cc')];
const [VMS, ALL_VMS] = ['vms.app.internal', 'all.vms.app.internal'];
const INTERVAL_MS = 5_000;

interface Fleet {
  readonly dns: ScriptedDns;
  readonly clock: TestClock;
  readonly directory: Directory;
  readonly liveness: Liveness;
  /** The kinds of status reported, in order. */
  readonly turns: DirectoryStatus['kind'][];
  /** Advances the clock to the next reading and waits until the reading ends. */
  readonly readNext: () => Promise<void>;
}

async function setUp(
  t: TestContext,
  {
    timeoutMs = 200,
    ...options
  }: { timeoutMs?: number; processGroup?: string; onOthers?: () => Promise<void> } = {},
): Promise<Fleet> {
  const dns = await startScriptedDns(t);
  const clock = createTestClock();
  const turns: DirectoryStatus['kind'][] = [];
  const liveness = createTestLiveness(clock);
  const directory = createDnsDirectory({
    self: SELF,
    appName: 'app',
    resolver: createDnsResolver({ server: dns.server, timeoutMs, tries: 1 }),
    peerPort: 8081,
    liveness,
    clock,
    onStatus: ({ kind }) => turns.push(kind),
    ...options,
  });
  t.after(() => directory.stop());
  const readNext = async (): Promise<void> => {
    await clock.advance(INTERVAL_MS);
    await directory.refresh();
  };
  return { dns, clock, directory, liveness, turns, readNext };
}

/** Responds as Fly's DNS does: `running` in `vms.`, and the `stopped` ones too in `all.vms.` */
function listMachines(dns: ScriptedDns, running: string[], stopped: string[] = []): void {
  dns.txt.set(VMS, running.map((id) => `${id} ams`).join(','));
  dns.txt.set(ALL_VMS, [...running, ...stopped].map((id) => `${id} ams`).join(','));
  for (const id of running) dns.aaaa.set(`${id}.vm.app.internal`, [`fdaa::${id}`]);
  for (const id of stopped) dns.aaaa.delete(`${id}.vm.app.internal`);
}

function machinesOf(directory: Directory): string[] {
  return directory.others().map(({ machine }) => machine);
}

describe('the DNS directory, when a caller looks for new Machines', () => {
  it('reads early for a new Machine, but not twice within half a second', async (t) => {
    const { dns, clock, directory } = await setUp(t);
    listMachines(dns, ['aa', 'bb']);
    await directory.start();
    listMachines(dns, ['aa', 'bb', 'cc']);
    // A Machine that started after the last reading began can't be in it: wait for another reading.
    const checks = [directory.findNewMachines(), directory.findNewMachines()];
    await clock.advance(499);
    assert.deepEqual(machinesOf(directory), ['bb']);
    await clock.advance(1);
    assert.deepEqual(await Promise.all(checks), [true, true]);
    assert.deepEqual(machinesOf(directory), ['bb', 'cc']);
    await clock.advance(500);
    assert.equal(await directory.findNewMachines(), false);
  });

  it('uses a reading from the last half second for an urgent caller', async (t) => {
    const { dns, clock, directory } = await setUp(t);
    listMachines(dns, ['aa', 'bb']);
    await directory.start();
    listMachines(dns, ['aa', 'bb', 'cc']);
    await clock.advance(499);
    assert.equal(await directory.findNewMachines(true), false);
    await clock.advance(1);
    assert.equal(await directory.findNewMachines(true), true);
    assert.deepEqual(machinesOf(directory), ['bb', 'cc']);
  });

  it('makes an urgent caller wait only for the reading in progress', async (t) => {
    const { dns, clock, directory } = await setUp(t, { timeoutMs: 60_000 });
    listMachines(dns, ['aa', 'bb']);
    await directory.start();
    await clock.advance(500);
    dns.isUnresponsive = true;
    const checks = [directory.findNewMachines(true), directory.findNewMachines(true)];
    await clock.advance(300);
    assert.deepEqual(await Promise.all(checks), [undefined, undefined]);
  });

  it('returns unknown for new Machines while the DNS does not respond', async (t) => {
    const { dns, clock, directory } = await setUp(t, { timeoutMs: 60_000 });
    listMachines(dns, ['aa', 'bb']);
    await directory.start();
    await clock.advance(500);
    dns.isUnresponsive = true;
    const check = directory.findNewMachines();
    await clock.advance(300);
    assert.equal(await check, undefined);
  });

  it('leaves no timer for an early reading that was requested too soon', async (t) => {
    const { dns, clock, directory } = await setUp(t);
    listMachines(dns, ['aa', 'bb']);
    await directory.start();
    const before = clock.pendingCount();
    const check = directory.findNewMachines();
    await clock.advance(500);
    await check;
    assert.equal(clock.pendingCount(), before);
  });

  it('confirms no Machine as stopped while an early reading has no response', async (t) => {
    const { dns, clock, directory, liveness, readNext } = await setUp(t, { timeoutMs: 60_000 });
    listMachines(dns, ['aa'], ['bb']);
    await directory.start();
    for (let i = 0; i < 3; i += 1) await readNext();
    assert.equal(liveness.isConfirmedStopped(B), true);
    await clock.advance(500);
    dns.isUnresponsive = true;
    const check = directory.findNewMachines();
    await clock.advance(300);
    await check;
    assert.equal(directory.status().kind, 'ok');
    assert.equal(liveness.isConfirmedStopped(B), false);
  });
});

describe('the DNS directory', () => {
  it('announces once that other Machines exist: when the first one is listed', async (t) => {
    let announced = 0;
    const onOthers = (): Promise<void> => Promise.resolve(void (announced += 1));
    const { dns, directory, readNext } = await setUp(t, { onOthers });
    listMachines(dns, ['aa']);
    await directory.start();
    assert.equal(announced, 0);
    listMachines(dns, ['aa', 'bb']);
    await readNext();
    assert.equal(announced, 1);
    listMachines(dns, ['aa', 'cc']);
    await readNext();
    assert.equal(announced, 1);
  });

  it('lists the other running Machines by name, port and address', async (t) => {
    const { dns, directory } = await setUp(t);
    listMachines(dns, ['aa', 'bb', 'cc'], ['dd']);
    assert.deepEqual(directory.status(), { kind: 'starting' });
    await directory.start();
    assert.deepEqual(directory.status().kind, 'ok');
    assert.deepEqual(directory.others(), [
      { machine: 'bb', host: 'bb.vm.app.internal', port: 8081, address: 'fdaa::bb' },
      { machine: 'cc', host: 'cc.vm.app.internal', port: 8081, address: 'fdaa::cc' },
    ]);
    assert.equal(directory.peer(C)?.address, 'fdaa::cc');
    assert.equal(directory.peer(SELF), undefined);
  });

  it('reads the names that the simulated private network serves', async (t) => {
    const clock = createTestClock();
    const server = await startDnsServer(() =>
      [SELF, B].map((id) => ({
        id,
        app: 'app',
        region: 'ams',
        processGroup: 'web',
        state: 'started' as const,
        peerPort: 1,
      })),
    );
    t.after(() => server.close());
    const directory = createDnsDirectory({
      self: SELF,
      appName: 'app',
      processGroup: 'web',
      resolver: createDnsResolver({ server: server.address }),
      peerPort: 8081,
      liveness: createTestLiveness(clock),
      clock,
    });
    t.after(() => directory.stop());
    await directory.start();
    assert.deepEqual(machinesOf(directory), ['bb']);
    assert.equal(directory.isPeerAddress('127.0.0.1'), true);
  });

  it('reads once per interval, however often it is queried', async (t) => {
    const { dns, clock, directory, readNext } = await setUp(t);
    listMachines(dns, ['aa', 'bb']);
    const readings = (): number => dns.queries.filter((name) => name === `TXT ${VMS}`).length;
    await Promise.all([directory.start(), directory.refresh(), directory.refresh()]);
    await directory.refresh();
    await clock.advance(INTERVAL_MS - 1);
    await directory.refresh();
    assert.equal(readings(), 1);
    await clock.advance(1);
    await Promise.all([directory.refresh(), directory.refresh()]);
    assert.equal(readings(), 2);
    await readNext();
    assert.equal(readings(), 3);
  });

  it('adds Machines that start and removes Machines that stop', async (t) => {
    const { dns, directory, readNext } = await setUp(t);
    listMachines(dns, ['aa', 'bb']);
    await directory.start();
    listMachines(dns, ['aa', 'cc'], ['bb']);
    await readNext();
    assert.deepEqual(machinesOf(directory), ['cc']);
  });

  it('sends no query and leaves no timer after it is stopped', async (t) => {
    const { dns, clock, directory } = await setUp(t, { timeoutMs: 60_000 });
    dns.isUnresponsive = true;
    const started = directory.start();
    await directory.stop();
    await started;
    assert.equal(clock.pendingCount(), 0);
    const count = dns.queries.length;
    await directory.refresh();
    await clock.advance(3 * INTERVAL_MS);
    assert.equal(dns.queries.length, count);
  });
});

describe('the DNS directory, when a reading fails', () => {
  const failures: [string, (dns: ScriptedDns) => void, reason: RegExp][] = [
    ['the name server does not answer', (dns) => void (dns.isUnresponsive = true), /ETIMEOUT/],
    [
      'the name does not exist',
      (dns) => void dns.txt.delete(VMS),
      /^vms\.app\.internal: ENOTFOUND/,
    ],
    ['the list is empty', (dns) => void dns.txt.set(VMS, ''), /does not list this Machine/],
    [
      'the list is junk',
      (dns) => void dns.txt.set(VMS, '\u0000 ,;='),
      /does not list this Machine/,
    ],
    ['the list lacks this Machine', (dns) => void dns.txt.set(VMS, 'cc ams'), /not list this/],
    ['all.vms. lacks this Machine', (dns) => void dns.txt.set(ALL_VMS, 'cc ams'), /^all\.vms/],
  ];
  for (const [name, breakIt, reason] of failures) {
    it(`keeps the last good reading and reports the failure when ${name}`, async (t) => {
      const { dns, clock, directory, turns, readNext } = await setUp(t);
      listMachines(dns, ['aa', 'bb']);
      await directory.start();
      const before = directory.others();
      breakIt(dns);
      await readNext();
      const since = clock.now();
      await readNext();
      const status = directory.status();
      assert.ok(status.kind === 'failing');
      assert.equal(status.since, since);
      assert.match(status.reason, reason);
      assert.equal(directory.others(), before);
      assert.deepEqual(turns, ['ok', 'failing']);
    });
  }

  it('is failing from the start if the first reading fails, and recovers by itself', async (t) => {
    const { dns, directory, turns, readNext } = await setUp(t);
    await directory.start();
    assert.equal(directory.status().kind, 'failing');
    listMachines(dns, ['aa', 'bb']);
    await readNext();
    assert.equal(directory.status().kind, 'ok');
    assert.deepEqual(turns, ['failing', 'ok']);
  });

  it('reports a reading as stale after three intervals without another', async (t) => {
    const { dns, clock, directory } = await setUp(t, { timeoutMs: 60_000 });
    listMachines(dns, ['aa', 'bb']);
    await directory.start();
    dns.isUnresponsive = true;
    await clock.advance(3 * INTERVAL_MS);
    assert.equal(directory.status().kind, 'ok');
    await clock.advance(1);
    assert.equal(directory.status().kind, 'failing');
  });
});

describe('addresses', () => {
  it('of other Machines are listed in any spelling; our own and foreign addresses are not', async (t) => {
    const { dns, directory } = await setUp(t);
    listMachines(dns, ['aa', 'bb', 'cc']);
    dns.aaaa.set('cc.vm.app.internal', ['::ffff:10.0.0.7']);
    await directory.start();
    const rows: [address: string, isListed: boolean, isOfB: boolean][] = [
      ['fdaa::bb', true, true],
      ['FDAA:0:0::BB', true, true],
      ['fdaa::bb%eth0', true, true],
      ['10.0.0.7', true, false],
      ['::ffff:10.0.0.7', true, false],
      ['::ffff:a00:7', true, false],
      ['fdaa::aa', false, false],
      ['fdaa::bc', false, false],
      ['127.0.0.1', false, false],
      ['', false, false],
      ['no address', false, false],
    ];
    for (const [address, isListed, isOfB] of rows) {
      assert.equal(directory.isPeerAddress(address), isListed, address);
      assert.equal(directory.isAddressOf(B, address), isOfB, address);
    }
    assert.equal(directory.isAddressOf(SELF, 'fdaa::aa'), false);
  });

  it('are cached for a few readings and then resolved again, because they can change', async (t) => {
    const { dns, directory, readNext } = await setUp(t);
    listMachines(dns, ['aa', 'bb']);
    await directory.start();
    dns.aaaa.set('bb.vm.app.internal', ['fdaa::b2']);
    await readNext();
    assert.equal(directory.peer(B)?.address, 'fdaa::bb');
    await readNext();
    await readNext();
    assert.equal(directory.peer(B)?.address, 'fdaa::b2');
    assert.equal(directory.isPeerAddress('fdaa::bb'), false);
  });

  it('are resolved again when a Machine returns after an absence', async (t) => {
    const { dns, directory, readNext } = await setUp(t);
    listMachines(dns, ['aa', 'bb']);
    await directory.start();
    listMachines(dns, ['aa'], ['bb']);
    await readNext();
    listMachines(dns, ['aa', 'bb']);
    dns.aaaa.set('bb.vm.app.internal', ['fdaa::b2']);
    await readNext();
    assert.equal(directory.peer(B)?.address, 'fdaa::b2');
  });

  it('that are not found keep their last value, and a Machine without one stays listed', async (t) => {
    const { dns, directory, readNext } = await setUp(t);
    listMachines(dns, ['aa', 'bb', 'cc']);
    dns.aaaa.delete('cc.vm.app.internal');
    await directory.start();
    assert.equal(directory.status().kind, 'ok');
    assert.deepEqual(directory.peer(C), { machine: 'cc', host: 'cc.vm.app.internal', port: 8081 });
    dns.aaaa.delete('bb.vm.app.internal');
    dns.aaaa.set('cc.vm.app.internal', ['fdaa::cc']);
    for (let i = 0; i < 4; i += 1) await readNext();
    assert.equal(directory.peer(B)?.address, 'fdaa::bb');
    assert.equal(directory.peer(C)?.address, 'fdaa::cc');
  });
});

describe('the process group', () => {
  const WEB = 'web.process.app.internal';

  it('excludes Machines of other groups', async (t) => {
    const { dns, directory } = await setUp(t, { processGroup: 'web' });
    listMachines(dns, ['aa', 'bb', 'cc']);
    dns.aaaa.set(WEB, ['fdaa::aa', 'fdaa:0::cc']);
    await directory.start();
    assert.deepEqual(machinesOf(directory), ['cc']);
    assert.equal(directory.isPeerAddress('fdaa::bb'), false);
  });

  it('keeps a Machine without a known address: it may belong to this group', async (t) => {
    const { dns, directory } = await setUp(t, { processGroup: 'web' });
    listMachines(dns, ['aa', 'bb']);
    dns.aaaa.delete('bb.vm.app.internal');
    dns.aaaa.set(WEB, ['fdaa::aa']);
    await directory.start();
    assert.deepEqual(machinesOf(directory), ['bb']);
  });

  for (const members of [undefined, ['fdaa::bb']]) {
    it(`is ignored when its list is ${members ? 'without this Machine' : 'missing'}`, async (t) => {
      const { dns, directory } = await setUp(t, { processGroup: 'web' });
      listMachines(dns, ['aa', 'bb']);
      if (members) dns.aaaa.set(WEB, members);
      await directory.start();
      assert.equal(directory.status().kind, 'failing');
    });
  }
});

describe('a Machine', () => {
  it('is confirmed gone by two readings ten seconds apart that lack it', async (t) => {
    const { dns, directory, liveness, readNext } = await setUp(t);
    listMachines(dns, ['aa', 'bb']);
    await directory.start();
    listMachines(dns, ['aa']);
    assert.equal(liveness.isConfirmedGone(B), false);
    await readNext();
    assert.equal(liveness.isConfirmedGone(B), false);
    await readNext();
    assert.equal(liveness.isConfirmedGone(B), false);
    await readNext();
    assert.equal(liveness.isConfirmedGone(B), true);
  });

  it('that is stopped is not gone', async (t) => {
    const { dns, directory, liveness, readNext } = await setUp(t);
    listMachines(dns, ['aa', 'bb']);
    await directory.start();
    listMachines(dns, ['aa'], ['bb']);
    for (let i = 0; i < 10; i += 1) await readNext();
    assert.equal(liveness.isConfirmedGone(B), false);
  });

  it('that is stopped is confirmed stopped by two readings ten seconds apart, until it runs again', async (t) => {
    const { dns, directory, liveness, readNext } = await setUp(t);
    listMachines(dns, ['aa', 'bb']);
    await directory.start();
    assert.equal(liveness.listing(B), 'running');
    listMachines(dns, ['aa'], ['bb']);
    await readNext();
    assert.deepEqual([liveness.listing(B), liveness.isConfirmedStopped(B)], ['stopped', false]);
    for (let i = 0; i < 2; i += 1) await readNext();
    assert.equal(liveness.isConfirmedStopped(B), true);
    dns.isUnresponsive = true;
    await readNext();
    assert.deepEqual([liveness.listing(B), liveness.isConfirmedStopped(B)], ['stopped', false]);
    dns.isUnresponsive = false;
    await readNext();
    assert.equal(liveness.isConfirmedStopped(B), true);
    listMachines(dns, ['aa', 'bb']);
    await readNext();
    assert.deepEqual([liveness.listing(B), liveness.isConfirmedStopped(B)], ['running', false]);
    assert.equal(liveness.listing(C), 'none');
  });

  it('that was never listed is not gone because of readings from before it was first queried', async (t) => {
    const { dns, directory, liveness, readNext } = await setUp(t);
    listMachines(dns, ['aa']);
    await directory.start();
    for (let i = 0; i < 10; i += 1) await readNext();
    // It may have been created after the last reading, and may own sessions by now.
    assert.equal(liveness.isConfirmedGone(B), false);
    listMachines(dns, ['aa', 'bb']);
    await readNext();
    assert.equal(liveness.isConfirmedGone(B), false);
    for (let i = 0; i < 3; i += 1) await readNext();
    assert.equal(liveness.isConfirmedGone(B), false);
  });

  it('that was never listed is gone after two readings since it was first queried', async (t) => {
    const { dns, directory, liveness, readNext } = await setUp(t);
    listMachines(dns, ['aa']);
    await directory.start();
    const responses = [liveness.isConfirmedGone(B)];
    for (let i = 0; i < 3; i += 1) {
      await readNext();
      responses.push(liveness.isConfirmedGone(B));
    }
    assert.deepEqual(responses, [false, false, false, true]);
  });

  const changes: [string, (dns: ScriptedDns) => void][] = [
    ['lack this Machine too', (dns) => void dns.txt.set(ALL_VMS, 'cc ams')],
    ['are empty', (dns) => void dns.txt.set(ALL_VMS, '')],
    ['do not exist', (dns) => void dns.txt.delete(ALL_VMS)],
    ['stay away', (dns) => void (dns.isUnresponsive = true)],
  ];
  for (const [name, change] of changes) {
    it(`is not gone when DNS responses ${name}`, async (t) => {
      const { dns, directory, liveness, readNext } = await setUp(t);
      listMachines(dns, ['aa', 'bb']);
      await directory.start();
      change(dns);
      for (let i = 0; i < 5; i += 1) await readNext();
      assert.equal(liveness.isConfirmedGone(B), false);
    });
  }

  it('is not gone when a reading in between lists it', async (t) => {
    const { dns, directory, liveness, readNext } = await setUp(t);
    listMachines(dns, ['aa', 'bb']);
    await directory.start();
    for (const machines of [['aa'], ['aa'], ['aa', 'bb'], ['aa'], ['aa']]) {
      listMachines(dns, machines);
      await readNext();
    }
    assert.equal(liveness.isConfirmedGone(B), false);
  });

  it('is never gone if it is this Machine', async (t) => {
    const { liveness, readNext } = await setUp(t);
    for (let i = 0; i < 4; i += 1) await readNext();
    assert.equal(liveness.isConfirmedGone(SELF), false);
  });
});
