/** The fleet as configured: the directory, liveness, the join at the start, and warnings. */
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import {
  offDirectory,
  type Directory,
  type DirectoryStatus,
  watchForOtherMachines,
  watchForUnreadableFleet,
} from '../fleet/directory.ts';
import { createDnsDirectory, type DnsDirectoryOptions } from '../fleet/dns-directory.ts';
import { createDnsResolver, lookupHost } from '../fleet/dns-resolver.ts';
import { startFleetJoin, type FleetJoin, type JoinOptions } from '../fleet/join/join.ts';
import { Liveness } from '../fleet/liveness.ts';
import { loadUndici, type LoadUndici } from '../fleet/peer-client.ts';
import { createStaticDirectory } from '../fleet/static-directory.ts';
import type { Logger } from '../observability/log.ts';
import type { MachineId } from '../session.ts';
import type { SessionStore } from '../store/store.ts';
import { isSharedStore, type AdapterParts } from './adapters.ts';

/** Starts without any evidence. */
export function createLiveness(config: Config, { clock, logger, metrics }: AdapterParts): Liveness {
  const { fleet, identity, ownerStopped, fleetGoneAfterMs } = config;
  const liveness = new Liveness({
    self: identity.machine,
    clock,
    ownerStopped,
    goneAfterMs: fleet.kind === 'static' ? fleetGoneAfterMs : 0,
    onChange: (peer, isUnresponsive) => {
      if (isUnresponsive) logger.warn({ peer }, PEER_UNRESPONSIVE);
      else logger.info({ peer }, PEER_RESPONDS);
    },
    onSleepChange: (peer, isAsleep) => logger.info({ peer }, isAsleep ? PEER_SLEEPS : PEER_WOKE),
  });
  metrics.peers(() => {
    const silent = liveness.missingHeartbeats().length;
    return { answering: liveness.others().length - silent, silent };
  });
  return liveness;
}

const PEER_UNRESPONSIVE =
  'a peer does not respond: new sessions go to other Machines, its own sessions wait';
const PEER_SLEEPS = 'a peer sleeps: requests of its sessions wake it, new sessions go elsewhere';
const PEER_WOKE = 'a peer has woken';
const PEER_RESPONDS = 'a peer responds again: new sessions are placed on it';

/** Reads nothing before it is started. */
export function createDirectory(
  config: Config,
  parts: AdapterParts,
  liveness: Liveness,
): Directory {
  const { fleet, identity } = config;
  const { clock, logger } = parts;
  // Loads the client before the first query is urgent: loading takes about 100 ms.
  const onOthers = async (): Promise<void> => {
    await createUndiciLoader(logger)().catch(() => undefined);
  };
  switch (fleet.kind) {
    case 'off':
      return offDirectory;
    case 'static':
      return createStaticDirectory({
        self: identity.machine,
        entries: fleet.peers,
        lookup: lookupHost,
        liveness,
        clock,
        onOthers,
      });
    case 'auto':
      return createAppDirectory(config, parts, fleet.appName, {
        liveness,
        onStatus: (status) => reportFleet(logger, identity.machine, status),
        onOthers,
      });
  }
}

interface JoinedFleet {
  readonly store: SessionStore;
  readonly directory: Directory;
  readonly liveness: Liveness;
  readonly onContested: JoinOptions['onConflict'];
}

/** Reads the bindings of the peers in the background, unless the fleet shares a store. */
export function joinFleet(
  config: Config,
  { clock, random, logger, metrics }: AdapterParts,
  { store, directory, liveness, onContested }: JoinedFleet,
): FleetJoin {
  const { identity, store: settings, fleet } = config;
  const isAlone = fleet.kind === 'off' || isSharedStore(settings);
  return startFleetJoin({
    self: identity.machine,
    store,
    maxSessions: settings.maxSessions,
    directory: isAlone ? offDirectory : directory,
    liveness,
    clock,
    random,
    loadUndici: createUndiciLoader(logger),
    onConflict: onContested,
    onImported: metrics.bindingImported,
    onReadFailed: (peer, reason) => logger.warn({ peer, reason }, READING_STOPPED),
    onEnd: (read) => logger.info({ read }, 'read the bindings of the other Machines'),
  });
}

const READING_STOPPED =
  'stopped reading the bindings of a peer: its sessions are looked up one by one';

/** Rejects if undici can't be loaded, and logs the first failure. */
export function createUndiciLoader(logger: Pick<Logger, 'error'>): LoadUndici {
  let isReported = false;
  return async () => {
    try {
      return await loadUndici();
    } catch (error) {
      if (!isReported) logger.error({ err: error }, NO_UNDICI);
      isReported = true;
      throw error;
    }
  };
}

const NO_UNDICI = 'could not load undici: the other Machines are not queried for session owners';

function createAppDirectory(
  config: Config,
  { clock }: AdapterParts,
  appName: string,
  hooks: Pick<DnsDirectoryOptions, 'liveness' | 'onStatus' | 'onOthers'>,
): Directory {
  const { identity, fleetResolver, peerDialPort } = config;
  return createDnsDirectory({
    self: identity.machine,
    appName,
    processGroup: identity.processGroup,
    resolver: createDnsResolver(fleetResolver === undefined ? {} : { server: fleetResolver }),
    peerPort: peerDialPort,
    clock,
    ...hooks,
  });
}

function reportFleet(logger: Logger, self: MachineId, status: DirectoryStatus): void {
  if (status.kind === 'failing') {
    const { reason } = status;
    logger.warn({ self, reason }, 'could not read the list of Machines: using the last one');
  } else {
    logger.info({ self, fleet: status.kind }, 'the list of Machines was read');
  }
}

/**
 * Warns, once and in the background, of other Machines whose sessions this one can't look up: it would
 * serve their requests itself. Returns a function that stops it.
 */
export function startFleetWarnings(
  config: Config,
  parts: AdapterParts,
  directory: Directory,
): () => Promise<void> {
  const { fleet, identity, hints } = config;
  const { clock, logger } = parts;
  if (fleet.kind === 'auto') {
    return watchForUnreadableFleet({
      directory,
      clock,
      onUnreadable: (status) => logger.warn({ fleet: status, hints }, UNREADABLE_WARNING),
    });
  }
  if (fleet.kind === 'static' || identity.app === undefined) return () => Promise.resolve();
  return watchForOtherMachines({
    directory: createAppDirectory(config, parts, identity.app, {
      liveness: new Liveness({ clock, ownerStopped: 'wake', goneAfterMs: 0 }),
    }),
    onOthers: (others) => logger.warn({ others, hints }, OTHERS_WARNING),
  });
}

const UNREADABLE_WARNING =
  'the list of Machines is still unreadable: the other Machines are not queried for session owners';
const OTHERS_WARNING =
  'other Machines of this app run, but with FLEET=off they are not queried for session owners';

/** The longest wait of a start for the first reading, in ms. */
const FIRST_READING_MS = 2_000;

/** Resolves when it was read, or when that takes too long. */
export async function startDirectory(
  directory: Pick<Directory, 'start'>,
  clock: Pick<Clock, 'sleep'>,
): Promise<void> {
  const abort = new AbortController();
  const reading = directory.start().finally(() => abort.abort());
  await Promise.race([reading, clock.sleep(FIRST_READING_MS, abort.signal)]);
}
