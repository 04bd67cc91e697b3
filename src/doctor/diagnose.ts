/** Runs all probes and checks, and collects the findings. */
import { readFile } from 'node:fs/promises';
import type { Clock } from '../clock.ts';
import type { Config, Environment } from '../config/config.ts';
import { checkApp, probeApp } from './app.ts';
import { type ClockFacts, checkClocks } from './clock-offset.ts';
import { nameOfDatabase, probeDatabase } from './database.ts';
import { checkDeployment, checkStopping } from './deployment.ts';
import { type FlyToml, parseFlyToml } from './fly-toml.ts';
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
import { adviseReplayCache, checkReplayCaches } from './replay-cache.ts';
import { type Finding, type Section, error, note, ok, renamed } from './report.ts';
import { checkMonitoring, checkServices } from './service.ts';
import { type DoctorSettings, checkSettings, readSettings } from './settings.ts';
import { checkSidecar, probeSidecar } from './sidecar.ts';
import { checkDatabase, checkFile, probeFile, checkVolume, probeVolume } from './store.ts';
import { createDnsResolver, lookupHost } from '../fleet/dns-directory.ts';
import { APPLICATION_ID, SQLITE_SCHEMA_VERSION } from '../store/sqlite/schema.ts';

export interface DiagnoseParts {
  readonly env: Environment;
  readonly clock: Clock;
  readonly random: () => number;
}

/** `configFile`: see {@link readFlyToml}. A failed probe is a finding, never a rejection. */
export async function diagnose(
  configFile: string | undefined,
  { env, clock, random }: DiagnoseParts,
): Promise<Section[]> {
  const { toml, findings } = await readFlyToml(configFile);
  const settings = readSettings(env, toml, random);
  const { config } = settings.read;
  const own = {
    title: 'Settings',
    findings: [...settings.origin, ...checkSettings(settings.read, settings.rename)],
    hasMistakes: settings.read.mistakes.length > 0,
  };
  const file = {
    title: 'fly.toml',
    findings: [...findings, ...(toml && config ? checkFlyToml(toml, config, settings) : [])],
  };
  if (!config) return [own, file];
  const cache = {
    title: 'Replay cache',
    findings: [adviseReplayCache(config.protocols, settings.cache)],
  };
  const machine = settings.isOnMachine ? await diagnoseMachine(config, clock, random) : [];
  const others = [file, cache, ...machine].map(({ title, findings }) => ({
    title,
    findings: renamed(findings, settings.rename),
  }));
  return [own, ...others];
}

function checkFlyToml(toml: FlyToml, config: Config, { cache }: DoctorSettings): Finding[] {
  return [
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

export interface ReadFlyToml {
  /** Undefined if the file does not exist or is not readable. */
  readonly toml: FlyToml | undefined;
  readonly findings: readonly Finding[];
}

const DEFAULT_FILE = 'fly.toml';

/** `named`: the path that the operator gave, which must exist; the default file is optional. */
export async function readFlyToml(named: string | undefined): Promise<ReadFlyToml> {
  const path = named ?? DEFAULT_FILE;
  try {
    return readText(path, await readFile(path, 'utf8'));
  } catch (failure) {
    const code =
      failure instanceof Error && 'code' in failure ? String(failure.code) : 'unreadable';
    if (code === 'ENOENT' && named === undefined) return { toml: undefined, findings: [noFile()] };
    const instead = 'give the path of fly.toml with --config';
    const finding = error(
      `Could not read ${path} (${code}).`,
      'The file was not checked.',
      instead,
    );
    return { toml: undefined, findings: [finding] };
  }
}

function noFile(): Finding {
  return note(
    'There is no fly.toml in this directory.',
    'Not checked: how Fly.io deploys, stops and reaches the Machines. Images rarely contain the file.',
    'run fly-affinity doctor --config FILE where you deploy the app from',
  );
}

function readText(path: string, text: string): ReadFlyToml {
  const parsed = parseFlyToml(text);
  if (parsed.kind === 'mistake') {
    const finding = error(`${path}, ${parsed.mistake}.`, 'Fly.io rejects the file.');
    return { toml: undefined, findings: [finding] };
  }
  const { toml } = parsed;
  const wrongTypes = toml.typeErrors.map((text) => error(`${text}.`, 'Fly.io rejects the file.'));
  return { toml, findings: wrongTypes.length > 0 ? wrongTypes : [ok(`${path} is valid.`)] };
}
