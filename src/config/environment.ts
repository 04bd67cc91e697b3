/**
 * The names under which a setting is looked up. `FLY_AFFINITY_PORT` wins over `PORT`, which the app may
 * use for itself.
 */
import { SETTING_NAMES, type SettingName } from './settings.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export const PREFIX = 'FLY_AFFINITY_';

/** Both names of every setting. */
export const VARIABLE_NAMES: readonly string[] = SETTING_NAMES.flatMap((name) => [
  name,
  prefixed(name),
]);

/** Each setting under its name without the prefix only, so that a caller who sets that name overrides it. */
export function withPlainNames(env: Environment): Environment {
  const others = Object.entries(env).filter(
    ([name]) => !name.startsWith(PREFIX) || !VARIABLE_NAMES.includes(name),
  );
  const overrides = prefixedIn(env).map((name) => [name, env[prefixed(name)]] as const);
  return { ...Object.fromEntries(others), ...Object.fromEntries(overrides) };
}

/** A value of a setting in a message is quoted. */
const QUOTED_OR_NAME = /"(?:[^"\\]|\\.)*"|\b[A-Z][A-Z_]+\b/g;

/** With them the app could act as the sidecar. */
const SECRETS: readonly SettingName[] = ['ADMIN_TOKEN', 'SESSION_STORE_URL'];
/** With the prefix they are the sidecar's; without it, the app may need its own. */
const PREFIXED_SECRETS: readonly SettingName[] = ['OTEL_EXPORTER_OTLP_HEADERS'];

/** What the app gets of our environment. `PORT` is the sidecar's own: the app would take that port. */
export function environmentOfApp(env: Environment, port: number): Environment {
  const secrets: readonly string[] = [
    ...SECRETS,
    ...[...SECRETS, ...PREFIXED_SECRETS].map(prefixed),
  ];
  const kept = Object.entries(env).filter(([name]) => !secrets.includes(name));
  return { ...Object.fromEntries(kept), PORT: String(port) };
}

/** Replaces the name of each setting in a message by the one under which it is set. */
export function namesAsSet(env: Environment): (message: string) => string {
  const names = new Set<string>(prefixedIn(env));
  return (message) =>
    message.replace(QUOTED_OR_NAME, (word) => (names.has(word) ? `${PREFIX}${word}` : word));
}

/**
 * Names under which many apps have settings of their own: the prefix sets the sidecar apart from them, and a warning
 * at each start would only be overlooked.
 */
function isNameOfApps(name: SettingName): boolean {
  return name === 'PORT' || name === 'HOST' || name === 'LOG_LEVEL' || name.startsWith('OTEL_');
}

export function warnAboutOverrides(env: Environment): string[] {
  return sentenceAbout(overriddenIn(env).filter((name) => !isNameOfApps(name)));
}

/** All of them, also those that are meant. */
export function describeOverrides(env: Environment): string[] {
  return sentenceAbout(overriddenIn(env));
}

function overriddenIn(env: Environment): readonly SettingName[] {
  return prefixedIn(env).filter((name) => isSet(env[name]) && env[name] !== env[prefixed(name)]);
}

/** Without values: they may be secrets. */
function sentenceAbout(names: readonly SettingName[]): string[] {
  if (names.length === 0) return [];
  const winners = names.map(prefixed).join(', ');
  const [win, have] =
    names.length === 1 ? ['wins', 'has another value'] : ['win', 'have other values'];
  return [`${winners} ${win} over ${names.join(', ')}, which ${have}`];
}

/** An empty variable counts as unset, as it does in most shells and compose files. */
export function isSet(value: string | undefined): value is string {
  return value !== undefined && value !== '';
}

function prefixedIn(env: Environment): readonly SettingName[] {
  return SETTING_NAMES.filter((name) => isSet(env[prefixed(name)]));
}

function prefixed(name: SettingName): string {
  return `${PREFIX}${name}`;
}
