/** Which settings doctor goes by: those of this Machine, or those that `fly.toml` gives a Machine. */
import { parseConfig, type Environment } from '../config/config.ts';
import { SETTING_NAMES } from '../config/settings.ts';
import { compareWithFile, type ReadSettings } from './environment.ts';
import { note, type Finding } from './finding.ts';
import type { FlyToml } from './fly-toml.ts';
import type { CacheSettings } from './replay-cache.ts';
import { sidecarServices } from './service.ts';

export interface DoctorSettings {
  /** Whether this is a Machine of Fly.io, whose network and disk can be looked at. */
  readonly isOnMachine: boolean;
  readonly read: ReadSettings;
  readonly cache: CacheSettings;
  /** Where the settings are from. */
  readonly origin: readonly Finding[];
}

export function readSettings(
  env: Environment,
  toml: FlyToml | undefined,
  random: () => number,
): DoctorSettings {
  const isOnMachine = isSet(env.FLY_MACHINE_ID) || isSet(env.FLY_ALLOC_ID);
  const used = isOnMachine ? env : environmentOfMachine(env, toml);
  const origin = isOnMachine
    ? compareWithFile(toml?.env ?? {}, env, SETTING_NAMES)
    : [tellOrigin(env, toml)];
  const read = readLeniently(used, random);
  return { isOnMachine, read, cache: cacheSettingsIn(read, toml), origin };
}

/** What Fly.io would set, with stand-ins for what it makes up. */
function environmentOfMachine(env: Environment, toml: FlyToml | undefined): Environment {
  const ofFly = { FLY_MACHINE_ID: 'doctor', FLY_APP_NAME: toml?.app ?? 'app' };
  const set = Object.entries(env).filter(([, value]) => isSet(value));
  return { ...ofFly, ...toml?.env, ...Object.fromEntries(set) };
}

function tellOrigin(env: Environment, toml: FlyToml | undefined): Finding {
  const fromShell = SETTING_NAMES.filter((name) => isSet(env[name]));
  const file = toml ? '[env] of fly.toml' : 'the defaults';
  const over = fromShell.length === 0 ? '' : `, with ${fromShell.join(', ')} from this shell`;
  return note(
    'This is no Machine of Fly.io: FLY_MACHINE_ID is not set.',
    `The settings are ${file}${over}. Volume, store, DNS, Machines, clock, app and sidecar were not looked at.`,
    'fly ssh console, then /opt/fly-affinity/start doctor',
  );
}

/** A mistaken setting is told, and then counts as unset, so that the rest is looked at as well. */
function readLeniently(env: Environment, random: () => number): ReadSettings {
  const first = parseConfig(env, random);
  if (first.config) return { config: first.config, warnings: first.warnings, mistakes: [] };
  const rest = withoutNamed(env, first.mistakes);
  const second = parseConfig(rest, random);
  return { config: second.config, warnings: second.warnings ?? [], mistakes: first.mistakes };
}

function withoutNamed(env: Environment, mistakes: readonly string[]): Environment {
  const named = new Set(mistakes.flatMap((mistake) => mistake.match(/\b[A-Z][A-Z_]+\b/g) ?? []));
  return Object.fromEntries(Object.entries(env).filter(([name]) => !named.has(name)));
}

function cacheSettingsIn({ config }: ReadSettings, toml: FlyToml | undefined): CacheSettings {
  const [service] = toml && config ? sidecarServices(toml, config) : [];
  return {
    ...(service && { section: service.section }),
    isCacheable: config?.replayCacheable ?? false,
    affinityCookie: config?.affinityCookie,
  };
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== '';
}
