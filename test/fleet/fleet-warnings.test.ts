import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { offDirectory, type Directory, type DirectoryStatus } from '../../src/fleet/directory.ts';
import { createDnsDirectory } from '../../src/fleet/dns-directory.ts';
import {
  watchForUnreadableFleet,
  watchForOtherMachines,
  WARN_AFTER_MS,
} from '../../src/fleet/fleet-warnings.ts';
import { createDnsResolver } from '../../src/fleet/dns-resolver.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { startScriptedDns, type ScriptedDns } from '../support/dns.ts';
import { machineId } from '../support/ids.ts';
import { createTestLiveness } from '../support/liveness.ts';

interface Look {
  readonly clock: TestClock;
  readonly dns: ScriptedDns;
  readonly directory: Directory;
}

async function setUp(t: TestContext): Promise<Look> {
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

function listMachines({ dns }: Look, text: string): void {
  dns.txt.set('vms.app.internal', text);
  dns.txt.set('all.vms.app.internal', text);
}

/** What the look has found when it is over, and that it has left no timer behind. */
async function othersFound({ directory, clock }: Look): Promise<number[]> {
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
  it('finds the others that run, once', async (t) => {
    const look = await setUp(t);
    listMachines(look, 'aa ams,bb ams,cc iad');
    assert.deepEqual(await othersFound(look), [2]);
  });

  it('finds nobody where it runs alone', async (t) => {
    const look = await setUp(t);
    listMachines(look, 'aa ams');
    assert.deepEqual(await othersFound(look), []);
  });

  it('takes a name server without an answer for no news', async (t) => {
    const look = await setUp(t);
    look.dns.isSilent = true;
    assert.deepEqual(await othersFound(look), []);
  });

  it('stops at once when it is stopped', async (t) => {
    const look = await setUp(t);
    listMachines(look, 'aa ams,bb ams');
    look.dns.isSilent = true;
    const end = watchForOtherMachines({
      directory: look.directory,
      onOthers: () => assert.fail('it was told to stop'),
    });
    await end();
    assert.equal(look.clock.pendingCount(), 0);
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
    it(`${isBlind ? 'says once' : 'does not say'} that it is blind if its list is ${status.kind} a minute after the start`, async () => {
      const clock = createTestClock();
      const said: DirectoryStatus[] = [];
      watchForUnreadableFleet({
        directory: { status: () => status },
        clock,
        onUnreadable: (now) => said.push(now),
      });
      await clock.advance(WARN_AFTER_MS - 1);
      assert.deepEqual(said, []);
      await clock.advance(10 * WARN_AFTER_MS);
      assert.deepEqual(said, isBlind ? [status] : []);
      assert.equal(clock.pendingCount(), 0);
    });
  }

  it('says nothing once it was stopped', async () => {
    const clock = createTestClock();
    const end = watchForUnreadableFleet({
      directory: { status: () => ({ kind: 'starting' }) },
      clock,
      onUnreadable: () => assert.fail('it was stopped'),
    });
    await end();
    assert.equal(clock.pendingCount(), 0);
    await clock.advance(WARN_AFTER_MS);
  });
});
