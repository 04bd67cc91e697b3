/** How bindings are created, moved and deleted. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  parseSessionId,
  type Binding,
  type MachineId,
  type SessionId,
  type SessionKey,
} from '../../src/session.ts';
import { COMMIT_TIMEOUT_MS } from '../../src/proxy/background-writes.ts';
import { keyOf, machineId } from '../support/ids.ts';
import { bindHere, KEY, SELF, setUp, TTL_MS, type Setting } from './bindings-setting.ts';

const [B, C] = [machineId('bb'), machineId('cc')];

function idOf(text: string): SessionId {
  return parseSessionId(text) ?? assert.fail();
}

async function copyOf({ store }: Setting, machine: MachineId, generation = 1): Promise<void> {
  await store.upsert({ key: KEY, machine, origin: 'copied', generation, ttlMs: TTL_MS });
}

function bindingOf(key: SessionKey): Binding {
  return { key, machine: SELF, origin: 'learned', generation: 1, createdAt: 0, expiresAt: 0 };
}

describe('an id that the app mints', () => {
  test('is bound to this Machine and announced', async (t) => {
    const setting = setUp(t);
    await setting.bindings.bindDiscovered(idOf('s'), 'mcp');
    const row = setting.row();
    assert.deepEqual([row?.machine, row?.origin, row?.generation], [SELF, 'learned', 1]);
    assert.deepEqual(setting.announced, [row]);
    assert.deepEqual(setting.conflicts, []);
  });

  test('moves here from another Machine with a copied binding, and the conflict is reported', async (t) => {
    const setting = setUp(t);
    await copyOf(setting, B, 4);
    await setting.bindings.bindDiscovered(idOf('s'), 'mcp');
    const row = setting.row();
    assert.deepEqual([row?.machine, row?.origin, row?.generation], [SELF, 'learned', 5]);
    assert.deepEqual(setting.conflicts, [[KEY, B]]);
    assert.deepEqual(setting.announced, [row]);
  });

  test('stays with a third Machine that was faster, and is not announced', async (t) => {
    const setting = setUp(t, {
      rebind: (key) => Promise.resolve({ ...bindingOf(key), machine: C }),
    });
    await copyOf(setting, B);
    await setting.bindings.bindDiscovered(idOf('s'), 'mcp');
    assert.deepEqual(setting.announced, []);
  });

  test('is revealed if the store fails, and the failure is reported', async (t) => {
    const setting = setUp(t, { claim: () => Promise.reject(new Error('disk full')) });
    await setting.bindings.bindDiscovered(idOf('s'), 'mcp');
    assert.deepEqual(setting.failures, ['bind']);
    assert.equal(setting.clock.pendingCount(), 0);
  });

  test('is revealed after two seconds if the store hangs, and the failure is reported', async (t) => {
    const commit = Promise.withResolvers<Binding>();
    const setting = setUp(t, { claim: () => commit.promise });
    let isSettled = false;
    const bound = setting.bindings.bindDiscovered(idOf('s'), 'mcp').then(() => (isSettled = true));
    await setting.clock.advance(COMMIT_TIMEOUT_MS - 1);
    assert.equal(isSettled, false);
    await setting.clock.advance(1);
    await bound;
    assert.deepEqual(setting.failures, ['bind']);
    commit.resolve(bindingOf(KEY));
    await setting.bindings.stop();
    assert.equal(setting.announced.length, 1);
  });
});

describe('an id that a client sends', () => {
  test('is claimed if it has no owner, and announced', async (t) => {
    const setting = setUp(t);
    void setting.bindings.claim(KEY, undefined, 'rpc');
    await setting.bindings.stop();
    const row = setting.row();
    assert.deepEqual([row?.machine, row?.origin], [SELF, 'adopted']);
    assert.deepEqual(setting.announced, [row]);
  });

  test('stays with the Machine that owns it', async (t) => {
    const setting = setUp(t);
    await copyOf(setting, B);
    assert.equal(await setting.bindings.claim(KEY, undefined, 'rpc'), B);
    await setting.bindings.stop();
    assert.equal(setting.row()?.machine, B);
    assert.deepEqual(setting.announced, []);
  });

  test('is lost to another Machine whose claim the store has just accepted', async (t) => {
    const claim = (): Promise<Binding> => Promise.resolve({ ...bindingOf(KEY), machine: C });
    const { bindings, announced } = setUp(t, { claim });
    assert.equal(await bindings.claim(KEY, undefined, 'rpc'), C);
    assert.deepEqual(announced, []);
  });

  test('is reported as claimed once the claim is committed, and not before', async (t) => {
    const commit = Promise.withResolvers<Binding>();
    const { bindings } = setUp(t, { claim: () => commit.promise });
    let isReported = false;
    const reported = bindings.claim(KEY, undefined, 'rpc').finally(() => (isReported = true));
    await nextTurn();
    assert.equal(isReported, false);
    commit.resolve(bindingOf(KEY));
    assert.equal(await reported, undefined);
  });

  test('is accepted if the store fails, and the failure is reported', async (t) => {
    const claim = (): Promise<Binding> => Promise.reject(new Error('no store'));
    const { bindings, failures } = setUp(t, { claim });
    assert.equal(await bindings.claim(KEY, undefined, 'rpc'), undefined);
    assert.deepEqual(failures, ['adopt']);
  });

  test('moves here from the Machine that is gone, and not from another', async (t) => {
    const setting = setUp(t);
    await copyOf(setting, B, 2);
    void setting.bindings.claim(KEY, C, 'rpc');
    await setting.bindings.stop();
    assert.equal(setting.row()?.machine, B);
    assert.deepEqual(setting.announced, []);
    void setting.bindings.claim(KEY, B, 'rpc');
    await setting.bindings.stop();
    const row = setting.row();
    assert.deepEqual([row?.machine, row?.origin, row?.generation], [SELF, 'adopted', 3]);
    assert.deepEqual(setting.announced, [row]);
  });
});

describe('a copied binding', () => {
  test('is dropped only if that peer is its owner', async (t) => {
    const setting = setUp(t);
    await copyOf(setting, B);
    setting.bindings.dropCopy(KEY, C);
    await setting.bindings.stop();
    assert.equal(setting.row()?.machine, B);
    setting.bindings.dropCopy(KEY, B);
    await setting.bindings.stop();
    assert.equal(setting.row(), undefined);
  });
});

test('endSession deletes a binding of this Machine, and not that of another', async (t) => {
  const setting = setUp(t);
  await copyOf(setting, B);
  setting.bindings.endSession(KEY, 'mcp', 'closed');
  await setting.bindings.stop();
  assert.equal(setting.row()?.machine, B);
  await setting.store.delete(KEY);
  await bindHere(setting);
  setting.bindings.endSession(KEY, 'mcp', 'closed');
  await setting.bindings.stop();
  assert.equal(setting.row(), undefined);
});

describe('the metrics count a session', () => {
  test('once when it is new, whoever minted its id, and not when it was bound before', async (t) => {
    const setting = setUp(t);
    await setting.bindings.bindDiscovered(idOf('s'), 'mcp');
    await setting.clock.advance(1);
    await setting.bindings.bindDiscovered(idOf('s'), 'mcp');
    await Promise.all([
      setting.bindings.claim(keyOf('other'), undefined, 'rpc'),
      setting.bindings.claim(keyOf('other'), undefined, 'rpc'),
    ]);
    await setting.clock.advance(1);
    await setting.bindings.claim(keyOf('other'), undefined, 'rpc');
    assert.deepEqual(setting.counted, ['opened mcp', 'opened rpc']);
  });

  test('not as new when it moves here', async (t) => {
    const setting = setUp(t);
    await copyOf(setting, B);
    await setting.bindings.claim(KEY, B, 'rpc');
    await setting.clock.advance(1);
    await setting.bindings.bindDiscovered(idOf('s'), 'rpc');
    assert.equal(setting.row()?.machine, SELF);
    assert.deepEqual(setting.counted, []);
  });

  test('once when it ends, and that of another Machine never', async (t) => {
    const setting = setUp(t);
    await copyOf(setting, B);
    setting.bindings.endSession(KEY, 'mcp', 'closed');
    await setting.bindings.stop();
    await setting.store.delete(KEY);
    await bindHere(setting);
    setting.bindings.endSession(KEY, 'mcp', 'app-restarted');
    setting.bindings.endSession(KEY, 'mcp', 'app-restarted');
    await bindHere(setting, keyOf('streamed'));
    setting.bindings.endWithStream(keyOf('streamed'), 'mcp-sse');
    await setting.bindings.stop();
    assert.deepEqual(setting.counted, ['ended mcp: app-restarted', 'ended mcp-sse: stream-closed']);
  });
});

test('stop waits for pending writes and leaves no timer', async (t) => {
  const commit = Promise.withResolvers<Binding>();
  const setting = setUp(t, { claim: () => commit.promise });
  setting.bindings.keepAlive(KEY);
  void setting.bindings.claim(KEY, undefined, 'rpc');
  let isStopped = false;
  const stopped = setting.bindings.stop().then(() => (isStopped = true));
  await nextTurn();
  assert.equal(isStopped, false);
  commit.resolve(bindingOf(KEY));
  await stopped;
  assert.equal(setting.clock.pendingCount(), 0);
});
