import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import {
  offDirectory,
  type Directory,
  type DirectoryStatus,
  watchForUnreadableFleet,
  watchForOtherMachines,
  WARN_AFTER_MS,
} from '../../src/fleet/directory.ts';
import { createDnsDirectory } from '../../src/fleet/dns-directory.ts';
import { createDnsResolver } from '../../src/fleet/dns-resolver.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { startScriptedDns, type ScriptedDns } from '../support/dns.ts';
import { machineId } from '../support/ids.ts';
import { createTestLiveness } from '../support/liveness.ts';

interface Probe {
  readonly clock: TestClock;
  readonly dns: ScriptedDns;
  readonly directory: Directory;
}

async function setUp(t: TestContext): Promise<Probe> {
  const dns = await startScriptedDns(t);
  const clock = createTestClock();
  const directory = createDnsDirectory({
    self: machineId('aa'),
    appName: 'app',
    resolver: createDnsResolver({ server: dns.server, timeoutMs: 200, tries: 1 }),
    peerPort: 8081,
    liveness: createTestLiveness(clock),
    clock,
  });
  t.after(() => directory.stop());
  return { clock, dns, directory };
}

function listMachines({ dns }: Probe, text: string): void {
  dns.txt.set('vms.app.internal', text);
  dns.txt.set('all.vms.app.internal', text);
}

/** Returns the result of the probe when it ends, and asserts that the probe leaves no timer. */
async function othersFound({ directory, clock }: Probe): Promise<number[]> {
  const found: number[] = [];
  const over = Promise.withResolvers<undefined>();
  const watched: Directory = {
    ...offDirectory,
    start: () => directory.start(),
    others: () => directory.others(),
    stop: () => directory.stop().then(() => over.resolve(undefined)),
  };
  const end = watchForOtherMachines({ directory: watched, onOthers: (count) => found.push(count) });
  await over.promise;
  await end();
  assert.equal(clock.pendingCount(), 0);
  return found;
}

describe('a Machine that is alone by configuration', () => {
  it('finds the other running Machines once', async (t) => {
    const probe = await setUp(t);
    listMachines(probe, 'aa ams,bb ams,cc iad');
    assert.deepEqual(await othersFound(probe), [2]);
  });

  it('finds no other Machine when it runs alone', async (t) => {
    const probe = await setUp(t);
    listMachines(probe, 'aa ams');
    assert.deepEqual(await othersFound(probe), []);
  });

  it('draws no conclusion when the name server does not respond', async (t) => {
    const probe = await setUp(t);
    probe.dns.isUnresponsive = true;
    assert.deepEqual(await othersFound(probe), []);
  });

  it('stops immediately when it is stopped', async (t) => {
    const probe = await setUp(t);
    listMachines(probe, 'aa ams,bb ams');
    probe.dns.isUnresponsive = true;
    const end = watchForOtherMachines({
      directory: probe.directory,
      onOthers: () => assert.fail('the probe was stopped'),
    });
    await end();
    assert.equal(probe.clock.pendingCount(), 0);
  });
});

describe('a Machine with a fleet', () => {
  const rows: readonly (readonly [DirectoryStatus, isBlind: boolean])[] = [
    [{ kind: 'starting' }, true],
    [{ kind: 'failing', since: 0, reason: 'vms.app.internal: ETIMEOUT' }, true],
    [{ kind: 'ok', readAt: 0 }, false],
    [{ kind: 'static' }, false],
  ];
  for (const [status, isBlind] of rows) {
    it(`${isBlind ? 'warns once' : 'does not warn'} that it sees no fleet if its list is ${status.kind} a minute after the start`, async () => {
      const clock = createTestClock();
      const warned: DirectoryStatus[] = [];
      watchForUnreadableFleet({
        directory: { status: () => status },
        clock,
        onUnreadable: (now) => warned.push(now),
      });
      await clock.advance(WARN_AFTER_MS - 1);
      assert.deepEqual(warned, []);
      await clock.advance(10 * WARN_AFTER_MS);
      assert.deepEqual(warned, isBlind ? [status] : []);
      assert.equal(clock.pendingCount(), 0);
    });
  }

  it('logs nothing after it is stopped', async () => {
    const clock = createTestClock();
    const end = watchForUnreadableFleet({
      directory: { status: () => ({ kind: 'starting' }) },
      clock,
      onUnreadable: () => assert.fail('the probe was stopped'),
    });
    await end();
    assert.equal(clock.pendingCount(), 0);
    await clock.advance(WARN_AFTER_MS);
  });
});
