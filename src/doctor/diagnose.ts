/** Runs all probes and checks, and collects the findings. */
import type { Clock } from '../clock.ts';
import type { Config, Environment } from '../config/config.ts';
import { checkApp, probeApp } from './app.ts';
import { type ClockFacts, checkClocks } from './clock-offset.ts';
import { checkDatabase, nameOfDatabase, probeDatabase } from './database.ts';
import { checkDeployment } from './deployment.ts';
import { checkEnv } from './env-section.ts';
import { checkMonitoring } from './monitoring.ts';
import type { Change } from './change.ts';
import {
  checkFile as checkConfigFile,
  namesFile,
  readConfigFile,
  type ConfigFile,
} from './config-file.ts';
import { collectFixes } from './collect-fixes.ts';
import type { FlyToml } from './fly-toml.ts';
import {
  checkDns,
  peerEndpoints,
  probeDns,
  MAX_PEERS,
  checkPeers,
  probePeers,
  type PeerEndpoint,
} from './fleet.ts';
import { withTimeout } from './probe.ts';
import { adviseReplayCache, checkReplayCaches, type CacheSettings } from './replay-cache.ts';
import { type Finding, type Section, note, renamed } from './report.ts';
import { checkServices } from './service.ts';
import { checkStopping } from './stopping.ts';
import { checkSettings, readSettings } from './settings.ts';
import { checkSidecar, probeSidecar } from './sidecar.ts';
import { checkFile, probeFile, checkVolume, probeVolume } from './store.ts';
import { createDnsResolver, lookupHost } from '../fleet/dns-resolver.ts';
import { APPLICATION_ID, SQLITE_SCHEMA_VERSION } from '../store/sqlite/schema.ts';

export interface DiagnoseParts {
  readonly env: Environment;
  readonly clock: Clock;
  readonly random: () => number;
}

/** `configFile`: see {@link readConfigFile}. A failed probe is a finding, never a rejection. */
export async function diagnose(
  configFile: string | undefined,
  { env, clock, random }: DiagnoseParts,
): Promise<Section[]> {
  const read = await readConfigFile(configFile);
  const toml = read.kind === 'read' ? read.file.toml : undefined;
  const settings = readSettings(env, toml, random);
  const { config } = settings.read;
  const own = {
    title: 'Settings',
    findings: [...settings.origin, ...checkSettings(settings.read, settings.rename)],
    hasMistakes: settings.read.mistakes.length > 0,
  };
  const file = {
    title: 'fly.toml',
    findings: [
      ...checkConfigFile(read),
      ...(toml && config ? checkFlyToml(toml, config, settings.cache) : []),
    ],
  };
  if (!config) return [own, file];
  const cache = {
    title: 'Replay cache',
    findings: [adviseReplayCache(config.protocols, settings.cache)],
  };
  const machine = settings.isOnMachine ? await diagnoseMachine(config, clock, random) : [];
  const inFile = namesFile(read.kind === 'read' ? read.file.path : 'fly.toml');
  const others = [file, cache, ...machine].map(({ title, findings }) => ({
    title,
    findings: renamed(findings, (text) => inFile(settings.rename(text))),
  }));
  return [own, ...others];
}

/** Changes of the file that fix what `diagnose` finds in it. */
export function fixesFor(
  { toml, values }: Pick<ConfigFile, 'toml' | 'values'>,
  { env, random }: Pick<DiagnoseParts, 'env' | 'random'>,
): readonly Change[] {
  if (toml.typeErrors.length > 0) return [];
  const check = (changed: FlyToml): Finding[] => {
    const { read, cache } = readSettings(env, changed, random);
    return read.config ? checkFlyToml(changed, read.config, cache) : [];
  };
  return collectFixes(values, [], check).changes;
}

export function checkFlyToml(toml: FlyToml, config: Config, cache: CacheSettings): Finding[] {
  return [
    ...checkEnv(toml),
    ...checkDeployment(toml, config),
    ...checkServices(toml, config),
    ...checkStopping(toml, config),
    ...checkMonitoring(toml, config),
    ...checkReplayCaches(toml, config, cache),
  ];
}

async function diagnoseMachine(
  config: Config,
  clock: Clock,
  random: () => number,
): Promise<Section[]> {
  const [store, fleet, upstream, sidecar] = await Promise.all([
    diagnoseStore(config, clock, random),
    diagnoseFleet(config, clock),
    probeApp(config.upstreamUrl, clock),
    probeSidecar(config, clock),
  ]);
  return [
    { title: 'Store', findings: store.findings },
    { title: 'Fleet', findings: fleet.findings },
    { title: 'Clock', findings: checkClocks([...fleet.clocks, ...store.clocks]) },
    { title: 'App', findings: checkApp(upstream) },
    { title: 'Sidecar', findings: checkSidecar(sidecar, config.adminPort) },
  ];
}

/** Findings, and the clocks of the probed systems for comparison. */
interface Diagnosis {
  readonly findings: readonly Finding[];
  readonly clocks: readonly ClockFacts[];
}

async function diagnoseStore(
  { store }: Config,
  clock: Clock,
  random: () => number,
): Promise<Diagnosis> {
  const { isEnabled, url, path } = store;
  if (!isEnabled || url?.kind === 'memory') {
    return {
      findings: [note('The store is in memory.', 'No file and no database to check.')],
      clocks: [],
    };
  }
  const volume = checkVolume(await probeVolume(path, random), url === undefined);
  if (url) {
    const { facts, clocks } = await probeDatabase(url, clock);
    return { findings: [...checkDatabase(nameOfDatabase(url), facts), ...volume], clocks };
  }
  const known = { applicationId: APPLICATION_ID, version: SQLITE_SCHEMA_VERSION };
  const file = checkFile(path, await probeFile(path), known);
  return { findings: [...volume, ...file], clocks: [] };
}

async function diagnoseFleet(config: Config, clock: Clock): Promise<Diagnosis> {
  const { fleet, peerDialPort, fleetResolver, identity } = config;
  switch (fleet.kind) {
    case 'off':
      return {
        findings: [note('FLEET is off.', 'The other Machines were not checked.')],
        clocks: [],
      };
    case 'static': {
      const endpoints = await Promise.all(
        fleet.peers.map(async ({ machine, host, port }) => ({
          machine,
          address: await addressOf(host, clock),
          port,
        })),
      );
      return diagnosePeers(endpoints, config, clock);
    }
    case 'auto': {
      const resolver = createDnsResolver(
        fleetResolver === undefined ? {} : { server: fleetResolver },
      );
      const facts = await probeDns(fleet.appName, identity, resolver, clock);
      const endpoints = await peerEndpoints(facts, peerDialPort, resolver, clock);
      resolver.cancel();
      const { findings, clocks } = await diagnosePeers(endpoints, config, clock);
      return { findings: [...checkDns(facts), ...findings], clocks };
    }
  }
}

const LOOKUP_TIMEOUT_MS = 3_000;

function addressOf(host: string, clock: Clock): Promise<string | undefined> {
  const lookUp = (): Promise<string | undefined> =>
    lookupHost(host).then(
      ([address]) => address,
      () => undefined,
    );
  return withTimeout(clock, LOOKUP_TIMEOUT_MS, lookUp, undefined);
}

async function diagnosePeers(
  endpoints: readonly PeerEndpoint[],
  { identity }: Config,
  clock: Clock,
): Promise<Diagnosis> {
  const probed = endpoints.slice(0, MAX_PEERS);
  const { peers, clocks } = await probePeers(probed, identity.machine, clock);
  return { findings: checkPeers(peers, endpoints.length - probed.length), clocks };
}
