/** Probes and checks everything in turn, and collects the findings. */
import { readFile } from 'node:fs/promises';
import type { Clock } from '../clock.ts';
import type { Config, Environment } from '../config/config.ts';
import { checkApp, probeApp } from './app.ts';
import { type ClockFacts, checkClocks } from './clock-offset.ts';
import { nameOfDatabase, probeDatabase } from './database.ts';
import { checkDeployment } from './deployment.ts';
import { checkDns, peerEndpoints, probeDns } from './dns.ts';
import { type FlyToml, parseFlyToml } from './fly-toml.ts';
import { checkMonitoring } from './monitoring.ts';
import { checkPeers, probePeers, type PeerEndpoint } from './peers.ts';
import { withTimeout } from './probe.ts';

import { adviseReplayCache, checkReplayCaches } from './replay-cache.ts';
import { type Finding, type Section, error, note, ok } from './report.ts';
import { checkServices } from './service.ts';
import { type DoctorSettings, checkSettings, readSettings } from './settings.ts';
import { checkSidecar, probeSidecar } from './sidecar.ts';
import { checkStopping } from './stopping.ts';
import { checkDatabase, checkFile, probeFile } from './store.ts';
import { checkVolume, probeVolume } from './volume.ts';
import { createDnsResolver, lookupHost } from '../fleet/dns-resolver.ts';
import { APPLICATION_ID, SQLITE_SCHEMA_VERSION } from '../store/sqlite/schema.ts';

export interface DiagnoseParts {
  readonly env: Environment;
  readonly clock: Clock;
  readonly random: () => number;
}

/** `configFile`: as {@link readFlyToml} takes it. Never rejects for what it finds. */
export async function diagnose(
  configFile: string | undefined,
  { env, clock, random }: DiagnoseParts,
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
    findings: [...findings, ...(toml && config ? checkFlyToml(toml, config, settings) : [])],
  };
  if (!config) return [own, file];
  const cache = {
    title: 'Replay cache',
    findings: [adviseReplayCache(config.protocols, settings.cache)],
  };
  const machine = settings.isOnMachine ? await examineMachine(config, clock, random) : [];
  return [own, file, cache, ...machine];
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

async function examineMachine(
  config: Config,
  clock: Clock,
  random: () => number,
): Promise<Section[]> {
  const [store, fleet, upstream, sidecar] = await Promise.all([
    examineStore(config, clock, random),
    examineFleet(config, clock),
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
  const volume = checkVolume(await probeVolume(path, random), url === undefined);
  if (url) {
    const { facts, clocks } = await probeDatabase(url, clock);
    return { findings: [...checkDatabase(nameOfDatabase(url), facts), ...volume], clocks };
  }
  const known = { applicationId: APPLICATION_ID, version: SQLITE_SCHEMA_VERSION };
  const file = checkFile(path, await probeFile(path), known);
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
      const facts = await probeDns(fleet.appName, identity, resolver, clock);
      const places = await peerEndpoints(facts, peerDialPort, resolver, clock);
      resolver.cancel();
      const { findings, clocks } = await askPeers(places, config, clock);
      return { findings: [...checkDns(facts), ...findings], clocks };
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
  return withTimeout(clock, LOOKUP_LIMIT_MS, look, undefined);
}

/** All are asked at once. */
const MAX_PEERS = 50;

async function askPeers(
  places: readonly PeerEndpoint[],
  { identity }: Config,
  clock: Clock,
): Promise<Examined> {
  const asked = places.slice(0, MAX_PEERS);
  const { peers, clocks } = await probePeers(asked, identity.machine, clock);
  return { findings: checkPeers(peers, places.length - asked.length), clocks };
}

export interface ReadFlyToml {
  /** Undefined: there is none, or it can't be read. */
  readonly toml: FlyToml | undefined;
  readonly findings: readonly Finding[];
}

const DEFAULT_FILE = 'fly.toml';

/** `named`: by the operator; one that is not named need not be there. */
export async function readFlyToml(named: string | undefined): Promise<ReadFlyToml> {
  const path = named ?? DEFAULT_FILE;
  try {
    return readText(path, await readFile(path, 'utf8'));
  } catch (failure) {
    const code =
      failure instanceof Error && 'code' in failure ? String(failure.code) : 'unreadable';
    if (code === 'ENOENT' && named === undefined) return { toml: undefined, findings: [noFile()] };
    const instead = 'the path of fly.toml after --config';
    const finding = error(`${path} can not be read (${code}).`, 'It was not looked at.', instead);
    return { toml: undefined, findings: [finding] };
  }
}

function noFile(): Finding {
  return note(
    'There is no fly.toml in this directory.',
    'How Machines are deployed, stopped and reached was not looked at. An image seldom has the file.',
    'fly-affinity doctor --config FILE, where the app is deployed from',
  );
}

function readText(path: string, text: string): ReadFlyToml {
  const parsed = parseFlyToml(text);
  if (parsed.kind === 'mistake') {
    const finding = error(`${path}, ${parsed.mistake}.`, 'Fly.io refuses the file.');
    return { toml: undefined, findings: [finding] };
  }
  const { toml } = parsed;
  const misfits = toml.misfits.map((misfit) => error(`${misfit}.`, 'Fly.io refuses the file.'));
  return { toml, findings: misfits.length > 0 ? misfits : [ok(`${path} can be read.`)] };
}
