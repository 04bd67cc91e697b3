/** Reads the settings, and checks that each is valid and that they fit together. */
import { type Config, type Environment, parseConfig } from '../config/config.ts';
import {
  describeOverrides,
  isSet,
  namesAsSet,
  PREFIX,
  VARIABLE_NAMES,
  withPlainNames,
} from '../config/environment.ts';
import { warnAboutUpstream } from '../config/upstream.ts';
import type { FlyToml } from './fly-toml.ts';
import { type CacheSettings, isNamed } from './replay-cache.ts';
import { type Finding, error, note, ok, renamed, warning } from './report.ts';
import { AUTO } from '../protocols/presets.ts';
import { listedNames } from '../protocols/setting.ts';
import { sidecarServices } from './service.ts';

interface DoctorSettings {
  /** Whether the doctor runs on a Fly.io Machine, so that its network and disk can be probed. */
  readonly isOnMachine: boolean;
  readonly read: ReadSettings;
  readonly cache: CacheSettings;
  /** Findings on where the settings come from. */
  readonly origin: readonly Finding[];
  /** Names settings in a text as they are set. */
  readonly rename: (text: string) => string;
}

export function readSettings(
  env: Environment,
  toml: FlyToml | undefined,
  random: () => number,
): DoctorSettings {
  const { FLY_MACHINE_ID: id, FLY_ALLOC_ID: olderId } = withPlainNames(env);
  const isOnMachine = isSet(id) || isSet(olderId);
  const used = isOnMachine ? env : environmentOfMachine(env, toml);
  const origin = isOnMachine
    ? compareWithFile(toml?.env ?? {}, env, VARIABLE_NAMES)
    : [describeOrigin(env, toml)];
  const read = readLeniently(used, random);
  const cache = cacheSettingsIn(read, toml);
  return { isOnMachine, read, cache, origin, rename: namesAsSet(used) };
}

/** The environment that Fly.io would set, with placeholder ids. */
function environmentOfMachine(env: Environment, toml: FlyToml | undefined): Environment {
  const ofFly = { FLY_MACHINE_ID: 'doctor', FLY_APP_NAME: toml?.app ?? 'app' };
  const set = Object.entries(env).filter(([, value]) => isSet(value));
  return { ...ofFly, ...toml?.env, ...Object.fromEntries(set) };
}

function describeOrigin(env: Environment, toml: FlyToml | undefined): Finding {
  const fromShell = VARIABLE_NAMES.filter((name) => isSet(env[name]));
  const file = toml ? '[env] of fly.toml' : 'the defaults';
  const over = fromShell.length === 0 ? '' : `, with ${fromShell.join(', ')} from this shell`;
  return note(
    'The doctor does not run on a Fly.io Machine: FLY_MACHINE_ID is not set.',
    `It uses ${file}${over}. Not checked: volume, store, DNS, Machines, clock, app and sidecar.`,
    'fly ssh console, then /opt/fly-affinity/start doctor',
  );
}

/** Reports invalid settings and treats them as unset, so that the others are checked too. */
function readLeniently(env: Environment, random: () => number): ReadSettings {
  const first = parseConfig(env, random);
  const rest = first.config
    ? env
    : withoutNamed(withPlainNames(env), first.mistakes.map(namesInPlain));
  const { config, warnings = [] } = first.config ? first : parseConfig(rest, random);
  const ofUpstream = config ? warnAboutUpstream(config, rest) : [];
  const notes = describeOverrides(rest);
  return {
    config,
    warnings: [...warnings, ...ofUpstream].filter((text) => !notes.includes(text)),
    notes,
    mistakes: first.mistakes ?? [],
  };
}

function namesInPlain(mistake: string): string {
  return mistake.replaceAll(PREFIX, '');
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
    affinityCookie: config?.affinityCookie?.name,
  };
}

/** The result of parsing the environment. */
interface ReadSettings {
  /** Invalid settings count as unset here, so that the others can be checked. */
  readonly config: Config | undefined;
  readonly mistakes: readonly string[];
  readonly warnings: readonly string[];
  /** What the sidecar warns of in its log, though `init` writes it on purpose. */
  readonly notes?: readonly string[];
}

export function checkSettings(
  { config, mistakes, warnings, notes = [] }: ReadSettings,
  rename = (text: string): string => text,
): Finding[] {
  return [
    ...mistakes.map((mistake) =>
      error(`${mistake}.`, 'The sidecar does not start: it exits with code 78.'),
    ),
    ...warnings.map((text) => warning(sentence(text), 'The sidecar starts and logs this warning.')),
    ...notes.map((text) => note(sentence(text), 'The app keeps its own value.')),
    ...(mistakes.length === 0 ? [ok('All settings are valid.')] : []),
    ...(config
      ? renamed(
          CHECKS.flatMap((check) => check(config)),
          rename,
        )
      : []),
  ];
}

function sentence(text: string): string {
  return text.endsWith('?') ? text : `${text}.`;
}

type SettingsCheck = (config: Config) => Finding[];

const CHECKS: readonly SettingsCheck[] = [
  checkHost,
  checkOwnerLookup,
  checkStore,
  checkUnknownSessions,
];

const LOOPBACK = /^(localhost|127(\.\d+){3}|::1|\[::1\])$/;

function checkHost({ host, fleet }: Config): Finding[] {
  if (LOOPBACK.test(host)) {
    return [
      warning(
        `HOST is ${host}.`,
        'Neither Fly Proxy nor the other Machines can reach a listener on loopback.',
        'HOST=::',
      ),
    ];
  }
  if (host !== '0.0.0.0' || fleet.kind === 'off') return [];
  return [
    warning(
      'HOST is 0.0.0.0, which is IPv4 only.',
      "Fly.io's private network is IPv6: the other Machines cannot reach this one.",
      'HOST=::',
    ),
  ];
}

export function isLoopback({ hostname }: URL): boolean {
  return LOOPBACK.test(hostname);
}

/** The owner of a session must come from somewhere: a hint in the id, the peers, or a database. */
function checkOwnerLookup({ fleet, hints, store, ...config }: Config): Finding[] {
  const isShared = store.isEnabled && store.url !== undefined && store.url.kind !== 'memory';
  if (fleet.kind !== 'off' || isShared) return [];
  const protocols = config.protocols.filter(isNamed);
  const unhinted = protocols.filter(
    ({ idLocations: sources, mintedBy }) =>
      mintedBy !== 'app' ||
      !sources.some((source) => 'mayCarryHint' in source && source.mayCarryHint),
  );
  const hidden = listedNames(hints ? unhinted : protocols);
  if (hidden.length === 0) {
    return [
      note(
        'FLEET is off: the sidecar does not query other Machines.',
        'Only the owner hint in a session id finds the owner. Without the hint the session is not found.',
      ),
    ];
  }
  return [
    warning(
      `FLEET is off, no store is shared, and ids of ${hidden.join(', ')} carry no owner hint.`,
      'With two Machines, neither can find a session that started on the other.',
      'FLEET=auto, SESSION_ID_HINTS=true, or SESSION_STORE_URL with a database',
    ),
  ];
}

function checkStore({ store }: Config): Finding[] {
  if (store.isEnabled && store.url?.kind !== 'memory') return [];
  return [
    note(
      store.isEnabled ? 'The session store is in memory.' : 'The session store is disabled.',
      'After a restart, the sidecar must query the other Machines for every session without an owner hint.',
      'SESSION_STORE_PATH on a volume, or SESSION_STORE_URL with a database',
    ),
  ];
}

function checkUnknownSessions({ unknownSession, protocols }: Config): Finding[] {
  if (unknownSession !== 'reject') return [];
  const isOfAuto = listedNames(protocols)[0] === 'auto';
  return (
    protocols
      .filter(({ mintedBy }) => mintedBy !== 'app')
      // Nobody has said that the app has these.
      .map((protocol) => ({ ...protocol, isOnlyOfAuto: isOfAuto && AUTO.includes(protocol) }))
      .map(({ name, mintedBy, isOnlyOfAuto }) =>
        (mintedBy === 'client' && !isOnlyOfAuto ? error : note)(
          `UNKNOWN_SESSION is reject, but clients of ${name} choose their own session ids.`,
          'No Machine knows a new id, so the sidecar returns 404 and the session never starts.',
          'UNKNOWN_SESSION=serve',
        ),
      )
  );
}

/** Names the settings whose value on this Machine differs from `fly.toml`. Never shows values: they may be secrets. */
export function compareWithFile(
  fileEnv: Environment,
  env: Environment,
  settingNames: readonly string[],
): Finding[] {
  const names = settingNames.filter((name) => (fileEnv[name] ?? env[name]) !== env[name]);
  if (names.length === 0) return [];
  return [
    note(
      `Settings on this Machine differ from [env] of fly.toml: ${names.join(', ')}.`,
      'A secret overrides the value in the file, or the file is not deployed yet.',
    ),
  ];
}
