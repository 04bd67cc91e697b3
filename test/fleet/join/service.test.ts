/** How a Machine that sends its bindings responds, and how long it remembers a reader. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { MachineId } from '../../../src/session.ts';
import {
  formatBindingsRequest,
  parseBindingsPage,
  type BindingsScope,
} from '../../../src/fleet/join/reader.ts';
import { createJoinService } from '../../../src/fleet/join/service.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import { PAGE_BINDINGS } from '../../../src/store/store.ts';
import { createTestClock } from '../../support/clock.ts';
import { keyOf, machineId } from '../../support/ids.ts';

const [SELF, READER, OTHER, GONE] = ['aa', 'bb', 'cc', 'dd'].map(machineId) as [
  MachineId,
  MachineId,
  MachineId,
  MachineId,
];
const TTL_MS = 3_600_000;

/** Two pages of its own, and a binding of each of two Machines that do not run. */
async function openScene() {
  const clock = createTestClock();
  const limits = { maxSessions: 10_000, maxAgeMs: 0 };
  const store = createMemoryStore({ clock, limits });
  const bind = (name: string, machine: MachineId) =>
    store.upsert({
      ...{ key: keyOf(name), machine, origin: 'copied', generation: 1, ttlMs: TTL_MS },
    });
  for (let index = 0; index <= PAGE_BINDINGS; index += 1) await bind(`own-${index}`, SELF);
  await bind('asleep', OTHER);
  await bind('gone', GONE);
  const isConfirmedGone = (machine: MachineId): boolean => machine === GONE;
  const liveness = { others: () => [], isConfirmedGone };
  const service = createJoinService({ self: SELF, store, liveness, clock, random: () => 0.5 });
  const request = (after?: string, of: BindingsScope = 'own', from = READER) =>
    service.respond(formatBindingsRequest({ from, of, after }), (machine) => machine !== OTHER);
  const read = async (after?: string, of?: BindingsScope) => {
    const text = await request(after, of);
    const page = typeof text === 'string' ? parseBindingsPage(text) : undefined;
    assert.ok(page, `responded ${text}`);
    return page;
  };
  return { clock, service, request, read };
}

describe('a Machine that sends its bindings', () => {
  it('sends each binding once, page by page', async () => {
    const { read } = await openScene();
    const keys: string[] = [];
    let after: string | undefined;
    do {
      const page = await read(after);
      keys.push(...page.bindings.map(({ key }) => key));
      after = page.next;
    } while (after !== undefined);
    assert.equal(keys.length, PAGE_BINDINGS + 1);
    assert.equal(new Set(keys).size, keys.length);
  });

  it('sends no bindings of Machines that are gone', async () => {
    const { read } = await openScene();
    const { bindings } = await read(undefined, 'copies');
    assert.deepEqual(
      bindings.map(({ owner }) => owner),
      [OTHER],
    );
  });

  it('returns 403 when the sender is not the Machine that it names', async () => {
    const { request } = await openScene();
    assert.equal(await request(undefined, 'own', OTHER), 403);
  });

  it('returns 400 for a malformed request', async () => {
    const { service } = await openScene();
    assert.equal(await service.respond('{}', () => true), 400);
  });

  it('returns 410 for a cursor that it did not issue, or that belongs to another request', async () => {
    const { request, read } = await openScene();
    assert.equal(await request('x-1'), 410);
    const { next } = await read();
    assert.equal(await request('x-1'), 410);
    assert.equal(await request(next, 'copies'), 410);
    assert.equal(typeof (await request(next)), 'string');
  });

  it('sends the last page again on request', async () => {
    const { request } = await openScene();
    const first = await request();
    const { next } = (typeof first === 'string' ? parseBindingsPage(first) : undefined) ?? {};
    const second = await request(next);
    assert.equal(typeof second, 'string');
    assert.equal(await request(next), second);
  });

  it('returns 503 beyond its rate, and continues a second later', async () => {
    const { clock, request, read } = await openScene();
    const { next } = await read();
    let requestCount = 1;
    while (typeof (await request(next)) === 'string') requestCount += 1;
    assert.equal(await request(next), 503);
    assert.ok(requestCount < 100, `${requestCount} pages at once`);
    await clock.advance(1_000);
    assert.equal(typeof (await request(next)), 'string');
  });

  it('returns 503 when there are more readers than it can remember', async () => {
    const { request } = await openScene();
    const readers = Array.from({ length: 9 }, (_, index) => machineId(`reader${index}`));
    const responses: unknown[] = [];
    for (const reader of readers) responses.push(await request(undefined, 'own', reader));
    assert.deepEqual(
      responses.map((response) => (typeof response === 'string' ? 'page' : response)),
      [...Array.from({ length: 8 }, () => 'page'), 503],
    );
  });

  it('forgets a reader that has been idle for 30 s', async () => {
    const { clock, request, read } = await openScene();
    const { next } = await read();
    await clock.advance(30_000);
    assert.equal(await request(next), 410);
    assert.equal(clock.pendingCount(), 0);
  });

  it('leaves no timer when it stops', async () => {
    const { clock, service, read } = await openScene();
    await read();
    service.stop();
    assert.equal(clock.pendingCount(), 0);
  });
});
