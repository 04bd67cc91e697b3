/** Which adapter stands behind each port. */
import type { MachineId } from './affinity/session.ts';
import type { Clock } from './clock.ts';
import type { Config } from './config.ts';
import { offDirectory, type Directory, type DirectoryStatus } from './fleet/directory.ts';
import { createDnsDirectory } from './fleet/dns-directory.ts';
import { lookForBlindness, lookForOthers } from './fleet/lookout.ts';
import { createDnsResolver, lookupHost } from './fleet/resolver.ts';
import { createStaticDirectory } from './fleet/static-directory.ts';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import { limitsOf, openConfiguredStore } from './store-adapters.ts';
import { createMemoryStore } from './store/memory.ts';
import { StoreError, type SessionStore } from './store/store.ts';

export interface AdapterParts {
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export interface OpenedStore {
  readonly store: SessionStore;
  /** Why a stand-in is used instead of what is configured; undefined if it is not. */
  readonly degraded: string | undefined;
}

/** Never rejects: where the store can't be opened, one warning says why, and memory takes its place. */
export async function openStore(
  { store: settings }: Config,
  { clock, random, logger, metrics }: AdapterParts,
): Promise<OpenedStore> {
  const storeParts = {
    clock,
    random,
    onOperation: metrics.storeOperation,
    onError: (error: StoreError) => logger.error({ err: error }, 'session store failed'),
  };
  try {
    return { store: await openConfiguredStore(settings, storeParts), degraded: undefined };
  } catch (error) {
    logger.warn({ err: error, path: settings.path }, FALLBACK_WARNING);
    metrics.storeDegraded(true);
    const degraded = error instanceof StoreError ? error.message : 'the store did not open';
    return { store: createMemoryStore({ clock, limits: limitsOf(settings) }), degraded };
  }
}

const FALLBACK_WARNING =
  'the session store can not be used: sessions are kept in memory and are lost when this process ends';

/** Reads nothing yet. */
export function createDirectory(config: Config, parts: AdapterParts): Directory {
  const { fleet, identity } = config;
  const { clock, logger } = parts;
  switch (fleet.kind) {
    case 'off':
      return offDirectory;
    case 'static':
      return createStaticDirectory({
        self: identity.machine,
        entries: fleet.peers,
        lookup: lookupHost,
        clock,
      });
    case 'auto':
      return createAppDirectory(config, parts, fleet.appName, (status) =>
        reportFleet(logger, identity.machine, status),
      );
  }
}

function createAppDirectory(
  config: Config,
  { clock }: AdapterParts,
  appName: string,
  onStatus?: (status: DirectoryStatus) => void,
): Directory {
  const { identity, fleetResolver, peerDialPort } = config;
  return createDnsDirectory({
    self: identity.machine,
    appName,
    processGroup: identity.processGroup,
    resolver: createDnsResolver(fleetResolver === undefined ? {} : { server: fleetResolver }),
    peerPort: peerDialPort,
    clock,
    ...(onStatus && { onStatus }),
  });
}

function reportFleet(logger: Logger, self: MachineId, status: DirectoryStatus): void {
  if (status.kind === 'failing') {
    const { reason } = status;
    logger.warn({ self, reason }, 'the list of Machines can not be read: the last one is kept');
  } else {
    logger.info({ self, fleet: status.kind }, 'the list of Machines was read');
  }
}

/**
 * Warns, once and in the background, where other Machines run whose sessions can't be known: a
 * request for one of these would be served by the wrong Machine. Returns what ends the looking.
 */
export function startLookout(
  config: Config,
  parts: AdapterParts,
  directory: Directory,
): () => Promise<void> {
  const { fleet, identity, hints } = config;
  const { clock, logger } = parts;
  if (fleet.kind === 'auto') {
    return lookForBlindness({
      directory,
      clock,
      onBlind: (status) => logger.warn({ fleet: status, hints }, BLIND_WARNING),
    });
  }
  if (fleet.kind === 'static' || identity.app === undefined) return () => Promise.resolve();
  return lookForOthers({
    directory: createAppDirectory(config, parts, identity.app),
    onOthers: (others) => logger.warn({ others, hints }, OTHERS_WARNING),
  });
}

const BLIND_WARNING =
  'the other Machines are still not known, so they are not asked whose a session is';
const OTHERS_WARNING =
  'other Machines of this app run, and with FLEET=off they are not asked whose a session is';
