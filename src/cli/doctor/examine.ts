/** Looks at everything in turn, and has it judged. */
import type { Clock } from '../../clock.ts';
import type { Config, Environment } from '../../config/config.ts';
import { judgeClocks, type ClockFacts } from '../../doctor/clock-offset.ts';
import { checkDeployment } from '../../doctor/deployment.ts';
import { judgeDns } from '../../doctor/dns.ts';
import { checkSettings } from '../../doctor/environment.ts';
import { note, type Finding, type Section } from '../../doctor/finding.ts';
import type { FlyToml } from '../../doctor/fly-toml.ts';
import { lookAtDatabase, nameOfDatabase } from '../../doctor/probes/database.ts';
import { lookAtFile } from '../../doctor/probes/sqlite-file.ts';
import { lookAtDns, lookAtPeers, placesIn, type PeerPlace } from '../../doctor/probes/fleet.ts';
import { inTime } from '../../doctor/probes/within.ts';
import { lookAtSidecar } from '../../doctor/probes/sidecar.ts';
import { lookAtUpstream } from '../../doctor/probes/upstream.ts';
import { lookAtVolume } from '../../doctor/probes/volume.ts';
import { checkMonitoring } from '../../doctor/monitoring.ts';
import { judgePeers } from '../../doctor/peers.ts';
import { adviseReplayCache, checkReplayCaches } from '../../doctor/replay-cache.ts';
import { checkServices } from '../../doctor/service.ts';
import { judgeSidecar } from '../../doctor/sidecar.ts';
import { checkStopping } from '../../doctor/stopping.ts';
import { judgeDatabase, judgeFile } from '../../doctor/store.ts';
import { judgeUpstream } from '../../doctor/upstream.ts';
import { judgeVolume } from '../../doctor/volume.ts';
import { createDnsResolver, lookupHost } from '../../fleet/resolver.ts';
import { APPLICATION_ID, SQLITE_SCHEMA_VERSION } from '../../store/sqlite/schema.ts';
import { readFlyToml } from './file.ts';
import { readSettings, type DoctorSettings } from './settings.ts';

export interface ExamineParts {
  readonly env: Environment;
  readonly clock: Clock;
  readonly random: () => number;
}

/** `configFile`: as {@link readFlyToml} takes it. Never rejects for what it finds. */
export async function examine(
  configFile: string | undefined,
  { env, clock, random }: ExamineParts,
): Promise<Section[]> {
  const { toml, findings } = await readFlyToml(configFile);
  const settings = readSettings(env, toml, random);
  const { config } = settings.read;
  const own = {
    title: 'Settings',
    findings: [...settings.origin, ...checkSettings(settings.read)],
  };
  const file = {
    title: 'fly.toml',
    findings: [...findings, ...(toml && config ? checkFile(toml, config, settings) : [])],
  };
  if (!config) return [own, file];
  const cache = {
    title: 'Replay cache',
    findings: [adviseReplayCache(config.protocols, settings.cache)],
  };
  const machine = settings.isOnMachine ? await examineMachine(config, clock, random) : [];
  return [own, file, cache, ...machine];
}

function checkFile(toml: FlyToml, config: Config, { cache }: DoctorSettings): Finding[] {
  return [
    ...checkDeployment(toml, config),
    ...checkServices(toml, config),
    ...checkStopping(toml, config),
    ...checkMonitoring(toml, config),
    ...checkReplayCaches(toml, config, cache),
  ];
}

async function examineMachine(
  config: Config,
  clock: Clock,
  random: () => number,
): Promise<Section[]> {
  const [store, fleet, upstream, sidecar] = await Promise.all([
    examineStore(config, clock, random),
    examineFleet(config, clock),
    lookAtUpstream(config.upstreamUrl, clock),
    lookAtSidecar(config, clock),
  ]);
  return [
    { title: 'Store', findings: store.findings },
    { title: 'Fleet', findings: fleet.findings },
    { title: 'Clock', findings: judgeClocks([...fleet.clocks, ...store.clocks]) },
    { title: 'App', findings: judgeUpstream(upstream) },
    { title: 'Sidecar', findings: judgeSidecar(sidecar, config.adminPort) },
  ];
}

/** What was found, and the times that were told on the way. */
interface Examined {
  readonly findings: readonly Finding[];
  readonly clocks: readonly ClockFacts[];
}

async function examineStore(
  { store }: Config,
  clock: Clock,
  random: () => number,
): Promise<Examined> {
  const { isEnabled, url, path } = store;
  if (!isEnabled || url?.kind === 'memory') {
    return {
      findings: [note('The store is in memory.', 'There is nothing to look at.')],
      clocks: [],
    };
  }
  const volume = judgeVolume(await lookAtVolume(path, random), url === undefined);
  if (url) {
    const { facts, clocks } = await lookAtDatabase(url, clock);
    return { findings: [...judgeDatabase(nameOfDatabase(url), facts), ...volume], clocks };
  }
  const known = { applicationId: APPLICATION_ID, version: SQLITE_SCHEMA_VERSION };
  const file = judgeFile(path, await lookAtFile(path), known);
  return { findings: [...volume, ...file], clocks: [] };
}

async function examineFleet(config: Config, clock: Clock): Promise<Examined> {
  const { fleet, peerDialPort, fleetResolver, identity } = config;
  switch (fleet.kind) {
    case 'off':
      return {
        findings: [note('There is no fleet, by the settings.', 'No other Machine was looked for.')],
        clocks: [],
      };
    case 'static': {
      const places = await Promise.all(
        fleet.peers.map(async ({ machine, host, port }) => ({
          machine,
          address: await addressOf(host, clock),
          port,
        })),
      );
      return askPeers(places, config, clock);
    }
    case 'auto': {
      const resolver = createDnsResolver(
        fleetResolver === undefined ? {} : { server: fleetResolver },
      );
      const facts = await lookAtDns(fleet.appName, identity, resolver, clock);
      const places = await placesIn(facts, peerDialPort, resolver, clock);
      resolver.cancel();
      const { findings, clocks } = await askPeers(places, config, clock);
      return { findings: [...judgeDns(facts), ...findings], clocks };
    }
  }
}

const LOOKUP_LIMIT_MS = 3_000;

function addressOf(host: string, clock: Clock): Promise<string | undefined> {
  const look = (): Promise<string | undefined> =>
    lookupHost(host).then(
      ([address]) => address,
      () => undefined,
    );
  return inTime(clock, LOOKUP_LIMIT_MS, look, undefined);
}

/** All are asked at once. */
const MAX_PEERS = 50;

async function askPeers(
  places: readonly PeerPlace[],
  { identity }: Config,
  clock: Clock,
): Promise<Examined> {
  const asked = places.slice(0, MAX_PEERS);
  const { peers, clocks } = await lookAtPeers(asked, identity.machine, clock);
  return { findings: judgePeers(peers, places.length - asked.length), clocks };
}
