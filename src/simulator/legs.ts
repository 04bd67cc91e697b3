/**
 * The legs of a request's path: to the first Machine or to the one in the replay cache, on by a replay,
 * back by a fallback. Pure.
 */
import { parseMachineId } from '../session.ts';
import {
  formatReplayFailure,
  formatReplaySource,
  type Fallback,
  type ReplayCacheStatus,
} from '../fly.ts';
import type { Delivery } from './delivery.ts';
import { withHeaders } from './edge-headers.ts';
import type { Hop } from './records.ts';
import { transformRequest, type ReplayRequest } from './replay.ts';
import type { CacheLookup } from './replay-cache.ts';
import { targetOfReplay, type EdgeMachine, type Target } from './targets.ts';

/** Where the request goes next, and what happens if it can't be delivered. */
export interface Leg {
  readonly how: Hop['how'];
  readonly target: Target;
  readonly request: { readonly target: string; readonly rawHeaders: readonly string[] };
  readonly timeoutMs?: number;
  readonly fallback?: { readonly to: EdgeMachine; readonly kind: Fallback; readonly from: Leg };
}

const MICROS_PER_MS = 1000;

/** Directly to the target of an earlier replay: no `Fly-Replay-Src`, as this request is not replayed. */
export function cachedLeg(first: Leg, { instruction, issuer }: CacheLookup & { kind: 'hit' }): Leg {
  const rawHeaders = withHeaders(first.request.rawHeaders, { 'Fly-Replay-Cache-Status': 'hit' });
  return {
    how: 'cached',
    target: targetOfReplay(instruction, issuer),
    request: { ...first.request, rawHeaders },
  };
}

export function replayLeg(
  leg: Leg,
  issuer: EdgeMachine,
  { instruction, transform }: ReplayRequest & { kind: 'replay' },
  { now, cacheStatus }: { readonly now: number; readonly cacheStatus: ReplayCacheStatus },
): Leg {
  const { state, timeoutMs, fallback } = instruction;
  const source = formatReplaySource({
    instance: issuer.id,
    region: issuer.region,
    timestampMicros: now * MICROS_PER_MS,
    ...(state !== undefined && { state }),
  });
  const request = transformRequest(leg.request, transform);
  return {
    how: 'replay',
    target: targetOfReplay(instruction, issuer),
    request: {
      ...request,
      rawHeaders: withHeaders(request.rawHeaders, {
        'Fly-Replay-Src': source,
        'Fly-Replay-Cache-Status': cacheStatus,
      }),
    },
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(fallback !== undefined && { fallback: { to: issuer, kind: fallback, from: leg } }),
  };
}

/** Back to the Machine that requested the replay, with the request as that Machine received it. */
export function fallbackLeg(
  failed: Leg,
  { to, kind, from }: NonNullable<Leg['fallback']>,
  { reason, elapsedMs }: Delivery & { kind: 'undelivered' },
): Leg {
  const { app, instance, preferInstance, regions } = failed.target;
  const named = parseMachineId(instance ?? preferInstance ?? '');
  const failure = formatReplayFailure({
    ...(named !== undefined && { instance: named }),
    app,
    ...(regions && { region: regions.join(',') }),
    replaySource: to.id,
    reason,
    elapsedMs: Math.round(elapsedMs),
  });
  return {
    how: 'fallback',
    target:
      kind === 'force_self'
        ? { app: to.app, instance: to.id }
        : { app: to.app, preferInstance: to.id },
    request: {
      ...from.request,
      rawHeaders: withHeaders(from.request.rawHeaders, { 'Fly-Replay-Failed': failure }),
    },
  };
}

export function headersFor(leg: Leg, machine: EdgeMachine): readonly string[] {
  const wanted = leg.target.preferInstance;
  const isAnother = wanted !== undefined && wanted !== machine.id && leg.how !== 'fallback';
  if (!isAnother) return leg.request.rawHeaders;
  return withHeaders(leg.request.rawHeaders, { 'Fly-Preferred-Instance-Unavailable': wanted });
}
