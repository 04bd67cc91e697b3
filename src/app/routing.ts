/** Routing as configured: where a request goes, and the status that peers receive from this Machine. */
import { PROTOCOL_VERSION, type PeerStatus } from '../fleet/messages.ts';
import type { AffinityCookie } from '../protocols/affinity-cookie.ts';
import { createRequestIdReader } from '../protocols/request-ids.ts';
import type { UpstreamHealth } from '../proxy/upstream-health.ts';
import type { NotAccepting } from '../routing/decision.ts';
import { type Draining, createPlacement } from '../routing/placement.ts';
import { OwnerFinder } from '../routing/find-owner.ts';
import type { OwnerFinderParts } from '../routing/owner-lookup.ts';
import { Router } from '../routing/route.ts';
import type { OwnedSessions, OwnedSessionsParts } from './owned-sessions.ts';

export interface RoutingParts extends Pick<
  OwnedSessionsParts,
  'config' | 'store' | 'directory' | 'liveness' | 'clock'
> {
  readonly draining: Pick<Draining, 'state'>;
  /** Whether this Machine owns the maximum number of sessions. */
  readonly isFull: () => boolean;
  readonly upstreamHealth: Pick<UpstreamHealth, 'isUp' | 'noteRefused'>;
  /** Whether the public port is open. */
  readonly isServing: () => boolean;
}

export function createRouter(
  parts: RoutingParts,
  sessions: OwnedSessions,
  cookie: AffinityCookie | undefined,
): Router {
  const { config, directory, liveness } = parts;
  const { ownerGone, unknownSession, replayMaxBodyBytes, placement: scope } = config;
  const { machine: self, region } = config.identity;
  const takesSessions = (): boolean => statusOf(parts).takesSessions;
  return new Router({
    ...{ self, liveness, directory, replayMaxBodyBytes },
    readIds: createRequestIdReader(config.protocols, { hints: config.hints }),
    owners: new OwnerFinder(ownerFinderParts(parts, sessions)),
    namedByCookie: cookie?.read,
    place: createPlacement({ self, region, scope, liveness, takesSessions }),
    notAccepting: () => whyNotAccepting(parts),
    policy: { ownerGone, unknownSession, replays: replaysOf(parts) },
  });
}

function ownerFinderParts(
  parts: RoutingParts,
  { peers, bindings }: OwnedSessions,
): OwnerFinderParts {
  const { config, store, directory, liveness, clock } = parts;
  // Machines may share a database without being a fleet.
  const isAlone = config.fleet.kind === 'off' && !store.isShared;
  return {
    ...{ store, directory, liveness, peers, clock },
    self: config.identity.machine,
    hints: config.hints,
    replays: replaysOf(parts),
    isInFlight: (key) => bindings.isInFlight(key),
    onDisowned: (key, machine) => bindings.dropCopy(key, machine),
    onOwnPast: isAlone ? (binding) => bindings.restore(binding) : undefined,
  };
}

function replaysOf({ config }: RoutingParts): 'resilient' | 'cacheable' {
  return config.replayCacheable ? 'cacheable' : 'resilient';
}

/** The status that peers receive from this Machine. */
export function statusOf(parts: RoutingParts): PeerStatus {
  const takesSessions = parts.isServing() && whyNotAccepting(parts) === undefined;
  return { version: PROTOCOL_VERSION, takesSessions, region: parts.config.identity.region };
}

/** An operator's drain takes precedence over capacity and health. */
function whyNotAccepting(parts: RoutingParts): NotAccepting | undefined {
  const { draining, isFull, upstreamHealth } = parts;
  if (draining.state() !== 'taking') return 'draining';
  if (isFull()) return 'full';
  return upstreamHealth.isUp() ? undefined : 'upstream-down';
}
