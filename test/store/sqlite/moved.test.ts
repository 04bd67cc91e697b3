/** The file disappears under an open store, or another one replaces it. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, readdir, rename, rm } from 'node:fs/promises';
import { describe, test, type TestContext } from 'node:test';
import type { Clock } from '../../../src/clock.ts';
import type { StoreError } from '../../../src/store/store.ts';
import { createTestClock } from '../../support/clock.ts';
import { machineId } from '../../support/ids.ts';
import { claim, ownerOf } from '../claims.ts';
import { createPlace, nextWorker, type Place } from '../place.ts';

const A = machineId('a1');
const B = machineId('b2');

interface Accident {
  readonly name: string;
  readonly happen: (place: Place, clock: Clock) => Promise<void>;
  /** The owner of the earlier session, for any store that opens the path afterwards. */
  readonly after: string;
}

const ACCIDENTS: readonly Accident[] = [
  { name: 'the file is deleted', happen: (place) => rm(file(place)), after: 'absent' },
  {
    name: 'the file is moved away',
    happen: (place) => rename(file(place), place.path('elsewhere')),
    after: 'absent',
  },
  { name: 'another file takes its place', happen: replaceFile, after: B },
  {
    name: 'its directory disappears',
    happen: (place) => rm(home(place), { recursive: true }),
    after: 'absent',
  },
  {
    name: 'its directory is moved away',
    happen: (place) => rename(home(place), place.path('elsewhere')),
    after: 'absent',
  },
  // Its last connection still has the log, and checkpoints it.
  { name: 'its log is deleted', happen: (place) => rm(`${file(place)}-wal`), after: A },
];

const home = (place: Place): string => place.path('home');
const file = (place: Place): string => place.path('home/store.sqlite');

async function replaceFile(place: Place, clock: Clock): Promise<void> {
  const other = await place.open({ path: place.path('other.sqlite'), clock });
  await claim(other, 'before', B);
  await other.close();
  await rename(place.path('other.sqlite'), file(place));
}

/** A store with one session, on a clock that stands still. */
async function start(t: TestContext) {
  const place = await createPlace(t);
  const clock = createTestClock();
  const errors: StoreError[] = [];
  const onError = (error: StoreError): void => void errors.push(error);
  const store = await place.open({ path: file(place), clock, onError });
  await claim(store, 'before');
  return { place, clock, errors, store };
}

for (const { name, happen, after } of ACCIDENTS) {
  describe(`when ${name}`, () => {
    test('no write is acknowledged any more, no cached value is used, and it is reported once', async (t) => {
      const { place, clock, errors, store } = await start(t);
      await happen(place, clock);
      await clock.advance(250);
      const writes = [claim(store, 'lost'), claim(store, 'lost-too'), store.cleanup()];
      // Detects it by itself, while the first write is about to detect it.
      assert.equal(ownerOf(store, 'before'), 'unknown');
      for (const write of writes)
        await assert.rejects(write, { code: 'damaged', message: /moved/ });
      await assert.rejects(claim(store, 'later'), { code: 'damaged' });
      await assert.rejects(store.getMetrics(), { code: 'damaged' });
      assert.equal(ownerOf(store, 'before'), 'unknown');
      assert.equal(errors.length, 1);
      assert.ok(errors[0]?.message.includes(JSON.stringify(file(place))));
    });

    test('opening the path again repairs it, and the next store has the remaining data', async (t) => {
      const { place, clock, store } = await start(t);
      await happen(place, clock);
      await assert.rejects(claim(store, 'lost'), { code: 'damaged' });
      await store.close();
      const again = await place.open({ path: file(place), clock });
      assert.equal(ownerOf(again, 'before'), after);
      assert.equal((await claim(again, 'new')).machine, A);
      // Even earlier data is not lost, and no intact file is reported as damaged.
      const asides = (await readdir(home(place))).filter((name) => name.includes('damaged'));
      assert.ok(
        asides.every((name) => /-(wal|shm)$/.test(name)),
        asides.join(),
      );
    });
  });
}

test('a store that is only read detects it with its next query, which is immediate after a pause', async (t) => {
  const { place, clock, errors, store } = await start(t);
  assert.equal(ownerOf(store, 'before'), A);
  await replaceFile(place, clock);
  await clock.advance(250);
  assert.equal(ownerOf(store, 'before'), 'unknown');
  assert.deepEqual(
    errors.map(({ code }) => code),
    ['damaged'],
  );
});

test('closing changes nothing in the new file', async (t) => {
  const { place, clock, store } = await start(t);
  await replaceFile(place, clock);
  const before = await readFile(file(place));
  await assert.rejects(claim(store, 'lost'), { code: 'damaged' });
  await store.close();
  assert.deepEqual(await readFile(file(place)), before);
});

test('a new writer thread creates no file where the old one is missing', async (t) => {
  const place = await createPlace(t);
  const [store, worker] = await Promise.all([place.open({ path: file(place) }), nextWorker()]);
  await rm(file(place));
  await worker.terminate();
  await assert.rejects(claim(store, 'lost'), { code: 'damaged' });
  assert.equal(existsSync(file(place)), false);
});

test('a copy that is put back counts as another file', async (t) => {
  const { place, store } = await start(t);
  await mkdir(place.path('backup'));
  await copyFile(file(place), place.path('backup/copy'));
  await rename(place.path('backup/copy'), file(place));
  await assert.rejects(claim(store, 'lost'), { code: 'damaged' });
});
