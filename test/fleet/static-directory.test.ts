import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { Directory } from '../../src/fleet/directory.ts';
import type { Liveness } from '../../src/fleet/liveness.ts';
import { createStaticDirectory } from '../../src/fleet/static-directory.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { machineId } from '../support/ids.ts';
import { createTestLiveness } from '../support/liveness.ts';

const [SELF, B, C] = [machineId('aa'), machineId('bb'), machineId('cc')];
const INTERVAL_MS = 30_000;

interface Hosts {
  readonly directory: Directory;
  readonly clock: TestClock;
  /** Addresses that the system resolver knows; a host that is missing is not found. */
  readonly hosts: Map<string, string[]>;
  readonly lookups: string[];
  readonly liveness: Liveness;
}

function setUp(t: TestContext): Hosts {
  const clock = createTestClock();
  const hosts = new Map<string, string[]>();
  const lookups: string[] = [];
  const liveness = createTestLiveness(clock);
  const directory = createStaticDirectory({
    self: SELF,
    entries: [
      { machine: SELF, host: '10.0.0.1', port: 1 },
      { machine: B, host: '10.0.0.2', port: 2 },
      { machine: C, host: 'c.example', port: 3 },
    ],
    lookup: (host) => {
      lookups.push(host);
      const found = hosts.get(host);
      return found ? Promise.resolve(found) : Promise.reject(new Error('not found'));
    },
    liveness,
    clock,
  });
  t.after(() => directory.stop());
  return { directory, liveness, clock, hosts, lookups };
}

describe('the static directory', () => {
  it('lists its configured Machines except this one, before and after its start', async (t) => {
    const { directory, hosts } = setUp(t);
    hosts.set('c.example', ['::ffff:10.0.0.3']);
    assert.deepEqual(
      directory.others().map(({ machine, port }) => [machine, port]),
      [
        ['bb', 2],
        ['cc', 3],
      ],
    );
    await directory.start();
    assert.equal(directory.peer(B)?.address, '10.0.0.2');
    assert.equal(directory.peer(C)?.address, '10.0.0.3');
    assert.equal(directory.peer(SELF), undefined);
    assert.deepEqual(directory.status(), { kind: 'static' });
  });

  it('announces once that other Machines exist, and has then started', async (t) => {
    const clock = createTestClock();
    const gate = Promise.withResolvers<undefined>();
    let announced = 0;
    const directory = createStaticDirectory({
      self: SELF,
      entries: [{ machine: B, host: '10.0.0.2', port: 2 }],
      lookup: () => Promise.reject(new Error('every host is an address')),
      liveness: createTestLiveness(clock),
      clock,
      onOthers: () => {
        announced += 1;
        return gate.promise;
      },
    });
    t.after(() => directory.stop());
    let hasStarted = false;
    const started = directory.start().then(() => (hasStarted = true));
    await clock.advance(0);
    assert.deepEqual([announced, hasStarted], [1, false]);
    gate.resolve(undefined);
    await started;
    await clock.advance(INTERVAL_MS);
    assert.equal(announced, 1);
  });

  it('announces no Machine when it lists only this one', async (t) => {
    let announced = 0;
    const directory = createStaticDirectory({
      self: SELF,
      entries: [{ machine: SELF, host: '10.0.0.1', port: 1 }],
      lookup: () => Promise.reject(new Error('every host is an address')),
      liveness: createTestLiveness(createTestClock()),
      clock: createTestClock(),
      onOthers: () => Promise.resolve(void (announced += 1)),
    });
    t.after(() => directory.stop());
    await directory.start();
    assert.equal(announced, 0);
  });

  it('knows the addresses of its Machines, and that no other address is one', async (t) => {
    const { directory, hosts } = setUp(t);
    hosts.set('c.example', ['fdaa::3', '10.0.0.3']);
    await directory.start();
    assert.equal(directory.isAddressOf(C, 'fdaa::3'), true);
    assert.equal(directory.isAddressOf(C, '::ffff:10.0.0.3'), true);
    assert.equal(directory.isAddressOf(B, '10.0.0.3'), false);
    assert.equal(directory.isPeerAddress('10.0.0.1'), false);
    assert.equal(directory.isPeerAddress('10.0.0.2'), true);
  });

  it('resolves names again once per interval, and keeps the last address of a name not found', async (t) => {
    const { directory, clock, hosts, lookups } = setUp(t);
    hosts.set('c.example', ['10.0.0.3']);
    await Promise.all([directory.start(), directory.refresh()]);
    await directory.refresh();
    assert.deepEqual(lookups, ['c.example']);
    hosts.delete('c.example');
    await clock.advance(INTERVAL_MS);
    await directory.refresh();
    assert.equal(directory.peer(C)?.address, '10.0.0.3');
    hosts.set('c.example', ['10.0.0.4']);
    await clock.advance(INTERVAL_MS);
    await directory.refresh();
    assert.equal(directory.peer(C)?.address, '10.0.0.4');
    assert.equal(lookups.length, 3);
  });

  it('confirms no Machine as gone: a static list proves nothing', async (t) => {
    const { directory, liveness } = setUp(t);
    await directory.start();
    assert.equal(liveness.isConfirmedGone(machineId('dd')), false);
    assert.equal(liveness.isConfirmedGone(B), false);
  });

  it('leaves no timer after it is stopped', async (t) => {
    const { directory, clock, lookups } = setUp(t);
    await directory.start();
    await directory.stop();
    await directory.refresh();
    assert.equal(clock.pendingCount(), 0);
    assert.equal(lookups.length, 1);
  });
});
