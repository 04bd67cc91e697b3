/**
 * Pairs of clients that use a new session id of their own at the same moment, and then another one,
 * while Machines stop and start. Each session must end up on one Machine, though its first one may
 * be lost.
 */
import { systemClock } from '../../../src/clock.ts';
import { sendRequest, isOutcome, outcomeOf } from '../crowd/outcome.ts';
import { Counted } from '../support/mcp-client.ts';
import { shortened } from '../support/shortened.ts';
import { until } from '../support/until.ts';

export interface Meetings {
  /** The number of sessions so far. */
  count(): number;
  /** Resolves once no client calls any more, with the responses that no client should receive. */
  end(): Promise<readonly string[]>;
  /** Waits until each of the latest sessions is on one Machine, wherever its calls enter. */
  untilTogether(): Promise<void>;
}

const PAIRS = 4;
const CALLS = 3;
const PAUSE_MS = 300;
/** The number of latest sessions that are checked in the end. */
const LATEST = 60;
const CHECKS = 3;

export function startMeetings(url: string): Meetings {
  const names: string[] = [];
  const faults: string[] = [];
  let isOver = false;

  async function call(name: string): Promise<Counted | undefined> {
    const response = await sendRequest(`${url}/visits?name=${name}&room=${name}`, {
      method: 'POST',
    });
    if (!isOutcome(response) && response.status === 200)
      return Counted.parse(JSON.parse(response.body));
    const outcome = isOutcome(response) ? response : outcomeOf(response);
    if (outcome.kind === 'wrong') faults.push(`${name}: ${outcome.what}`);
    return undefined;
  }

  async function meetRepeatedly(pair: number): Promise<void> {
    for (let meeting = 1; !isOver; meeting += 1) {
      const name = `meeting-${pair}-${meeting}`;
      names.push(name);
      for (let calls = 0; calls < CALLS; calls += 1) await Promise.all([call(name), call(name)]);
      await systemClock.sleep(PAUSE_MS);
    }
  }

  async function missing(name: string): Promise<string[]> {
    const seen: (string | undefined)[] = [];
    for (let checks = 0; checks < CHECKS; checks += 1) seen.push((await call(name))?.machine);
    const isTogether = seen[0] !== undefined && new Set(seen).size === 1;
    return isTogether ? [] : [`${name} is on ${seen.join(', ')}`];
  }

  const pairs = Array.from({ length: PAIRS }, (_, pair) => meetRepeatedly(pair));
  return {
    count: () => names.length,
    end: async () => {
      isOver = true;
      await Promise.all(pairs);
      return shortened(faults);
    },
    untilTogether: () =>
      until(async () => {
        const all = await Promise.all(names.slice(-LATEST).map(missing));
        return shortened(all.flat());
      }),
  };
}
