/** The settings: which ones the doctor uses, whether each is valid, and whether they fit together. */
import { type Config, type Environment, parseConfig } from '../config/config.ts';
import { SETTING_NAMES } from '../config/settings.ts';
import type { FlyToml } from './fly-toml.ts';
import { type CacheSettings, isNamed } from './replay-cache.ts';
import { type Finding, error, note, ok, warning } from './report.ts';
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

/** What was made of the environment. */
export interface ReadSettings {
  /** Mistaken settings count as unset here, so that the rest can be looked at. */
  readonly config: Config | undefined;
  readonly mistakes: readonly string[];
  readonly warnings: readonly string[];
}

export function checkSettings({ config, mistakes, warnings }: ReadSettings): Finding[] {
  return [
    ...mistakes.map((mistake) =>
      error(`${mistake}.`, 'The sidecar does not start with it: it ends with code 78.'),
    ),
    ...warnings.map((text) =>
      warning(sentence(text), 'The sidecar starts, and says so in its log.'),
    ),
    ...(mistakes.length === 0 ? [ok('Every setting can be read.')] : []),
    ...(config ? CHECKS.flatMap((check) => check(config)) : []),
  ];
}

function sentence(text: string): string {
  return text.endsWith('?') ? text : `${text}.`;
}

type SettingsCheck = (config: Config) => Finding[];

const CHECKS: readonly SettingsCheck[] = [
  checkHost,
  checkUpstream,
  checkKnowledge,
  checkStore,
  checkUnknownSessions,
];

const LOOPBACK = /^(localhost|127(\.\d+){3}|::1|\[::1\])$/;

function checkHost({ host, fleet }: Config): Finding[] {
  if (LOOPBACK.test(host)) {
    return [
      warning(
        `HOST is ${host}.`,
        'On Fly.io neither Fly Proxy nor the other Machines reach a listener on loopback.',
        'HOST=::',
      ),
    ];
  }
  if (host !== '0.0.0.0' || fleet.kind === 'off') return [];
  return [
    warning(
      'HOST is 0.0.0.0, which is IPv4 alone.',
      'The private network of Fly.io is IPv6: the other Machines can not ask this one.',
      'HOST=::',
    ),
  ];
}

export function isLoopback({ hostname }: URL): boolean {
  return LOOPBACK.test(hostname);
}

function checkUpstream({ upstreamUrl }: Config): Finding[] {
  if (isLoopback(upstreamUrl)) return [];
  return [
    warning(
      `UPSTREAM_URL is ${upstreamUrl.origin}, which is not in this Machine.`,
      'A session is bound to a Machine because the app beside the sidecar has it in memory.',
      'UPSTREAM_URL=http://127.0.0.1:3000',
    ),
  ];
}

/** Somebody has to know who owns a session: the id itself, the peers, or a database. */
function checkKnowledge({ fleet, hints, store, ...config }: Config): Finding[] {
  const isShared = store.isEnabled && store.url !== undefined && store.url.kind !== 'memory';
  if (fleet.kind !== 'off' || isShared) return [];
  const protocols = config.protocols.filter(isNamed);
  const unhinted = protocols.filter(
    ({ idLocations: sources, mintedBy }) =>
      mintedBy !== 'app' ||
      !sources.some((source) => 'mayCarryHint' in source && source.mayCarryHint),
  );
  const hidden = hints ? unhinted.map(({ name }) => name) : protocols.map(({ name }) => name);
  if (hidden.length === 0) {
    return [
      note(
        'There is no fleet: other Machines are not asked.',
        'A session is found by the hint in its id alone, and one whose client drops it is not found.',
      ),
    ];
  }
  return [
    warning(
      `There is no fleet and no shared store, and ids of ${hidden.join(', ')} carry no hint.`,
      'With two Machines, a session that starts on the other is not known here.',
      'FLEET=auto, SESSION_ID_HINTS=true, or SESSION_STORE_URL with a database',
    ),
  ];
}

function checkStore({ store }: Config): Finding[] {
  if (store.isEnabled && store.url?.kind !== 'memory') return [];
  return [
    note(
      store.isEnabled ? 'The session store is in memory.' : 'There is no session store.',
      'A sidecar that is restarted has to ask for every session whose id carries no hint.',
      'SESSION_STORE_PATH on a volume, or SESSION_STORE_URL with a database',
    ),
  ];
}

function checkUnknownSessions({ unknownSession, protocols }: Config): Finding[] {
  if (unknownSession !== 'reject') return [];
  return protocols
    .filter(({ mintedBy }) => mintedBy !== 'app')
    .map(({ name, mintedBy }) =>
      (mintedBy === 'client' ? error : note)(
        `UNKNOWN_SESSION is reject, and clients of ${name} bring ids of their own.`,
        'A new id is one that nobody knows: it is answered 404, and never gets a session.',
        'UNKNOWN_SESSION=serve',
      ),
    );
}

/** On a Machine: settings of `fly.toml` that it does not run with. Values may be secrets. */
export function compareWithFile(
  fileEnv: Environment,
  env: Environment,
  settingNames: readonly string[],
): Finding[] {
  const names = settingNames.filter((name) => (fileEnv[name] ?? env[name]) !== env[name]);
  if (names.length === 0) return [];
  return [
    note(
      `This Machine has other values than [env] of fly.toml: ${names.join(', ')}.`,
      'A secret takes the place of what the file says, or the file was not deployed yet.',
    ),
  ];
}
