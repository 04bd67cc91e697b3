/**
 * The store next to other processes on its file: lock holders, sharing processes, killed processes.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { keyOf, machineId } from '../../support/ids.ts';
import { startChild, type Child } from '../child.ts';
import { claim, ownerOf } from '../claims.ts';
import { createPlace, type Place } from '../place.ts';

const A = machineId('a1');
const B = machineId('b2');
const TTL_MS = 3_600_000;

test('while another process holds the write lock for two seconds, reads return and writes wait in order', async (t) => {
  const place = await createPlace(t);
  const store = await place.open({ retryCount: 10, retryDelayMs: 100 });
  await claim(store, 'old');
  const holder = startChild(t, 'lock-holder.ts', [place.path(), '2000']);
  await holder.printed(1);
  const writes = [
    claim(store, 'new'),
    claim(store, 'new', B),
    store.rebind(keyOf('new'), A, B, 'learned', TTL_MS),
    claim(store, 'newer', B),
  ];
  let settledCount = 0;
  for (const write of writes) void write.finally(() => (settledCount += 1));
  let turnCount = 0;
  while (holder.lines.length < 2) {
    assert.equal(settledCount, 0);
    assert.deepEqual(
      ['old', 'new', 'newer', 'none'].map((name) => ownerOf(store, name)),
      [A, B, B, 'absent'],
    );
    turnCount += 1;
    await nextTurn();
  }
  assert.ok(turnCount > 100, `the event loop turned ${turnCount} times`);
  assert.deepEqual(
    (await Promise.all(writes)).map((binding) => binding?.machine),
    [A, A, B, B],
  );
});

test('lookups and claims succeed, while another process checkpoints the log repeatedly', async (t) => {
  const place = await createPlace(t);
  const store = await place.open({ retryCount: 10 });
  await claim(store, 'old');
  const checkpointer = startChild(t, 'checkpointer.ts', [place.path()]);
  const names: string[] = [];
  while (checkpointer.lines.length < 30) {
    const name = `new-${names.length}`;
    assert.equal(ownerOf(store, name), 'absent');
    names.push(name);
    await claim(store, name);
    assert.equal(ownerOf(store, 'old'), A);
  }
  checkpointer.go();
  assert.equal(await checkpointer.ended, 0);
  for (const name of names) assert.equal(ownerOf(store, name), A);
});

test('of two processes that claim the same sessions at once, with cleanups meanwhile, each session has one winner', async (t) => {
  const sessionCount = 3_000;
  const place = await createPlace(t);
  const first = await place.open();
  await Promise.all(
    Array.from({ length: 2_000 }, (_, index) =>
      first.claim({ key: keyOf(`gone-${index}`), machine: A, origin: 'learned', ttlMs: 1 }),
    ),
  );
  await first.close();
  const contenders = ['a1', 'z9'].map((machine) =>
    startChild(t, 'contender.ts', [place.path(), machine, String(sessionCount)]),
  );
  await Promise.all(contenders.map((contender) => contender.printed(1)));
  for (const contender of contenders) contender.go();
  const outputs = await Promise.all(
    contenders.map(async (contender) => {
      assert.equal(await contender.ended, 0);
      return JSON.parse(contender.lines[1] ?? '') as Record<string, string>;
    }),
  );
  const [one = {}, other] = outputs;
  assert.deepEqual(one, other);
  assert.equal(Object.keys(one).length, sessionCount);
  // They began at opposite ends, so both have won some.
  assert.deepEqual([...new Set(Object.values(one))].sort(), ['a1', 'z9']);
  const store = await place.open();
  for (const [name, winner] of Object.entries(one)) assert.equal(ownerOf(store, name), winner);
  assert.equal((await store.getMetrics()).total, sessionCount);
});

describe('a process that is killed at a random moment', () => {
  /** Use a larger number by hand. */
  const ROUNDS = Number(process.env.KILL_ROUNDS ?? 50);
  /** Each round starts a process: all in one test would take longer than a test may, on a busy computer. */
  const ROUNDS_OF_FILE = 10;

  for (let first = 0; first < ROUNDS; first += ROUNDS_OF_FILE) {
    const end = Math.min(ROUNDS, first + ROUNDS_OF_FILE);
    test(`has all that it acknowledged, kills ${first + 1} to ${end}`, async (t) => {
      await killRepeatedly(t, first, end);
    });
  }
});

async function killRepeatedly(t: TestContext, first: number, end: number): Promise<void> {
  const place = await createPlace(t);
  const expected = new Map<string, string>();
  const diaryOf = (round: number): string => place.path(`diary-${round}`);
  const startMortal = (round: number): Child =>
    startChild(t, 'mortal.ts', [place.path(), diaryOf(round), `r${round}`]);
  let next = startMortal(first);
  for (let round = first; round < end; round += 1) {
    const mortal = next;
    mortal.go();
    // Loads meanwhile.
    next = startMortal(round + 1);
    // Spread evenly; one in ten times it is killed while it opens the file.
    await mortal.printed(round % 10 === 0 ? 1 : (round * 97) % 300);
    mortal.kill();
    assert.equal(await mortal.ended, null);
    const left = await readAll(place);
    for (const [name, states] of statesOf(await readDiary(diaryOf(round)))) {
      const state = left(name);
      assert.ok(states.includes(state), `${name} is ${state}, not ${states.join(' or ')}`);
      expected.set(name, state);
    }
  }
  const left = await readAll(place);
  for (const [name, state] of expected) assert.equal(left(name), state);
  assert.ok(expected.size > end - first);
}

/** Empty when the process was killed before it created one. */
async function readDiary(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.split('\n');
}

/**
 * The valid states of each session: the last acknowledged one, and the result of a write that had
 * begun.
 */
function statesOf(lines: readonly string[]): Map<string, string[]> {
  const states = new Map<string, string[]>();
  for (const line of lines) {
    const [what, name = '', leaves] = line.split(' ');
    const [acknowledged = 'absent', begun = acknowledged] = states.get(name) ?? [];
    if (what === 'begin' && leaves !== undefined) states.set(name, [acknowledged, leaves]);
    if (what === 'done') states.set(name, [begun]);
  }
  return states;
}

/** The owner of each session in the file, which is intact. */
async function readAll(place: Place): Promise<(name: string) => string> {
  const store = await place.open();
  const owners = new Map<string, string>();
  for await (const { key, machine } of store.entries()) owners.set(key, machine);
  await store.close();
  const db = new Database(place.path());
  assert.equal(db.pragma('integrity_check', { simple: true }), 'ok');
  db.close();
  return (name) => owners.get(keyOf(name)) ?? 'absent';
}
