/** What the other Machines of a fleet do while one sleeps, and what that one does when it wakes. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { HEARTBEAT_TIMEOUT_MS } from '../../src/fleet/peer-link.ts';
import { openFleet, type Line, type TestMachine } from '../support/fleet.ts';
import { keyOf } from '../support/ids.ts';
import {
  createJumpingClock,
  NIGHT_MS,
  request,
  requestAdmin,
  sleepOf,
  startScene,
  suspend,
  SUSPENDED,
  TTL_MS,
  until,
  untilLogged,
  type JumpingClock,
  type Scene,
} from './sleep-scene.ts';

/** Less than the sleeper waits for Fly.io. */
const GONE_AFTER_MS = 1_000;

interface Pair {
  readonly clock: JumpingClock;
  /** `m1`, which sleeps. */
  readonly sleeper: Scene;
  readonly other: TestMachine;
  readonly lineToOther: Line;
  /** Resolves once m1 waits for Fly.io, with its ports closed; to what suspends and resumes it. */
  readonly asleep: Promise<() => void>;
}

async function startPair(t: TestContext): Promise<Pair> {
  const clock = createJumpingClock(t);
  const fleet = await openFleet(t, 'm1', 'm2');
  const [line, lineToOther] = ['m1', 'm2'].map((id) => fleet.lines.get(id));
  assert.ok(line && lineToOther);
  const common = {
    FLEET: fleet.list,
    SESSION_STORE_TTL_MS: String(TTL_MS),
    ADMIN_TOKEN: '0123456789abcdef',
    // Whatever could take a session away.
    ...{ FLEET_GONE_AFTER_MS: String(GONE_AFTER_MS), OWNER_GONE: 'adopt', OWNER_STOPPED: 'gone' },
  };
  const other = await fleet.start('m2', 9, common, { clock });
  const isAsleep = Promise.withResolvers<() => void>();
  const sleeper = await startScene(
    t,
    (incoming, response, scene) => isAsleep.resolve(() => suspend(incoming, response, scene)),
    common,
    { clock, line },
  );
  await until(() => other.sidecar.readiness().fleet.silent === 0);
  return { clock, sleeper, other, lineToOther, asleep: isAsleep.promise };
}

const open = ({ url }: Scene): Promise<Response> => request(`${url}/open/a`, { method: 'POST' });
/** Without a hint: only stores and peers know the owner. */
const use = ({ url }: { readonly url: string }): Promise<Response> =>
  request(url, { headers: { 'mcp-session-id': 'a' } });

/** The Machine to which the edge is sent. */
function replayedTo({ headers }: Response): string | undefined {
  return /instance=(\w+)/.exec(headers.get('fly-replay') ?? '')?.[1];
}

describe('while a Machine sleeps', () => {
  test('the others know it, and expect no response', async (t) => {
    const { clock, other, asleep } = await startPair(t);
    await asleep;
    const { fleet } = other.sidecar.readiness();
    assert.deepEqual([fleet.asleep, fleet.silent], [1, 0]);
    await clock.sleep(5 * GONE_AFTER_MS);
    const later = other.sidecar.readiness().fleet;
    assert.deepEqual([later.asleep, later.silent], [1, 0]);
  });

  test('requests of its sessions are replayed to it, with time to wake, and never taken over', async (t) => {
    const { clock, sleeper, other, asleep } = await startPair(t);
    await open(sleeper);
    await asleep;
    for (const waitMs of [0, 5 * GONE_AFTER_MS]) {
      await clock.sleep(waitMs);
      const response = await use(other);
      assert.equal(replayedTo(response), 'm1');
      assert.match(response.headers.get('fly-replay') ?? '', /timeout=10s/);
    }
  });

  test('its sessions do not expire on the others', async (t) => {
    const { clock, sleeper, other, asleep } = await startPair(t);
    await open(sleeper);
    await asleep;
    clock.jump(NIGHT_MS);
    assert.equal(replayedTo(await use(other)), 'm1');
  });
});

describe('when it wakes', () => {
  test('the others know it, and the life of its sessions', async (t) => {
    const { clock, sleeper, other, asleep } = await startPair(t);
    await open(sleeper);
    (await asleep)();
    await untilLogged(sleeper, SUSPENDED);
    await until(() => other.sidecar.readiness().fleet.asleep === 0);
    await clock.sleep(1_000);
    const response = await requestAdmin(other.sidecar, `/sessions/${keyOf('a')}`);
    const { expiresAt } = (await response.json()) as { expiresAt: string };
    assert.ok(new Date(expiresAt).getTime() - clock.now() <= TTL_MS);
  });

  test('it asks them before the first request reaches its app, on connections that are new', async (t) => {
    const { clock, sleeper, other, lineToOther, asleep } = await startPair(t);
    await open(sleeper);
    const resume = await asleep;
    await takeOver(other);
    // The connections from before are dead, and nobody has closed them.
    lineToOther.freeze();
    const resumedAt = clock.monotonicMs();
    resume();
    await until(() => sleepOf(sleeper).state === 'awake');
    const responses = await Promise.all([1, 2, 3].map(() => use(sleeper)));
    assert.deepEqual(responses.map(replayedTo), ['m2', 'm2', 'm2']);
    // It has waited for none of the dead ones.
    assert.ok(clock.monotonicMs() - resumedAt < HEARTBEAT_TIMEOUT_MS);
  });
});

/** As an operator does it who believes that the Machine is gone. */
async function takeOver({ sidecar }: TestMachine): Promise<void> {
  const exported = await (await requestAdmin(sidecar, '/sessions')).text();
  const moved = exported
    .replace('"owner":"m1"', '"owner":"m2"')
    .replace('"generation":1', '"generation":2');
  const response = await requestAdmin(sidecar, '/sessions', { method: 'POST', body: moved });
  assert.equal(response.status, 200, await response.text());
}
