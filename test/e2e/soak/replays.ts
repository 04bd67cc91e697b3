/** `fly-replay`, as Fly Proxy reads it, and what it adds to the request that it replays. */
import { systemClock } from '../../../src/clock.ts';
import { lost, wrong } from './failure.ts';
import type { Machine } from './machine.ts';
import type { Step } from './step.ts';
import type { ResponseHead } from './wire/response.ts';

/**
 * How long after an app is back its sidecar may still send new requests to another Machine, in ms.
 */
const RECOVERY_MS = 3_000;

/** A client that follows no replay: only an app that is or was recently down causes one. */
export function checkNotSentElsewhere({ fields }: ResponseHead): void {
  if (fields.has('fly-replay')) throw lost('sent elsewhere', RECOVERY_MS);
}

/** The Machine that a `fly-replay` names; undefined if the response has none. */
export function replayTarget(
  step: Step,
  { fields }: ResponseHead,
  from: Machine,
): Machine | undefined {
  const replay = fields.get('fly-replay');
  if (replay === undefined) return undefined;
  const instance = fieldOf(replay, 'instance');
  if (instance === undefined && fieldOf(replay, 'elsewhere') === 'true') {
    return step.otherThan(from);
  }
  const to = step.machineCalled(instance ?? '');
  if (!to || to === from) throw wrong(`fly-replay: ${replay} from ${from.name}`);
  return to;
}

/** What Fly Proxy adds to a request that it replays. */
export function replaySource({ fields }: ResponseHead, from: Machine): string {
  const state = fieldOf(fields.get('fly-replay') ?? '', 'state');
  const ending = state === undefined ? '' : `;state=${state}`;
  return `fly-replay-src: instance=${from.name};t=${systemClock.now() * 1_000}${ending}`;
}

function fieldOf(replay: string, name: string): string | undefined {
  const pairs = replay.split(';').map((pair) => pair.trim());
  return pairs.find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1);
}
