/** What settings must be to each other. */
import { machineId } from './parsers.ts';
import type { Environment } from './environment.ts';
import type { SettingValues } from './settings.ts';

/** All mistakes; each names both settings. Values with a mistake of their own are undefined here. */
export function checkTogether(values: Partial<SettingValues>): string[] {
  return CHECKS.flatMap((check) => check(values));
}

type Check = (values: Partial<SettingValues>) => string[];

const CHECKS: readonly Check[] = [
  portsDiffer,
  upstreamIsNotTheSidecar,
  maxAgeCoversTtl,
  storeHoldsAFullMachine,
  allocIdIsMachineId,
  fleetHasAnIdentity,
  sharedStoreHasAnIdentity,
  peersCanBeDialed,
  affinityCookieIsNobodyElses,
];

const LISTENER_PORTS = ['PORT', 'PEER_PORT', 'ADMIN_PORT'] as const;

function portsDiffer(values: Partial<SettingValues>): string[] {
  return LISTENER_PORTS.flatMap((name, index) =>
    LISTENER_PORTS.slice(index + 1)
      .filter((other) => values[name] && values[name] === values[other])
      .map((other) => `${name} and ${other} must differ, both are ${values[name]}`),
  );
}

export const LOOPBACK_HOST =
  /^(localhost|127(\.\d+){3}|0\.0\.0\.0|\[::1?\]|\[::ffff:7f[0-9a-f]{2}:[0-9a-f]+\])$/;

function upstreamIsNotTheSidecar(values: Partial<SettingValues>): string[] {
  const url = values.UPSTREAM_URL;
  if (!url || !LOOPBACK_HOST.test(url.hostname)) return [];
  return LISTENER_PORTS.filter((name) => values[name] === portOf(url)).map(
    (name) =>
      `UPSTREAM_URL must not be this sidecar itself, got ${url.origin} while ${name} is ${values[name]}`,
  );
}

/** The port of an http: origin. */
export function portOf(url: URL): number {
  return url.port === '' ? 80 : Number(url.port);
}

function maxAgeCoversTtl(values: Partial<SettingValues>): string[] {
  const { SESSION_MAX_AGE_MS: maxAgeMs, SESSION_STORE_TTL_MS: ttlMs } = values;
  if (!maxAgeMs || ttlMs === undefined || maxAgeMs >= ttlMs) return [];
  return [
    `SESSION_MAX_AGE_MS must be 0 or at least SESSION_STORE_TTL_MS, got ${maxAgeMs} and ${ttlMs}`,
  ];
}

/** Or the store would drop sessions before the Machine is full. */
function storeHoldsAFullMachine(values: Partial<SettingValues>): string[] {
  const { MAX_SESSIONS_PER_MACHINE: perMachine, SESSION_STORE_MAX_SESSIONS: inStore } = values;
  if (perMachine === undefined || inStore === undefined || perMachine <= inStore) return [];
  return [
    `MAX_SESSIONS_PER_MACHINE must not exceed SESSION_STORE_MAX_SESSIONS, got ${perMachine} and ${inStore}`,
  ];
}

function allocIdIsMachineId(values: Partial<SettingValues>): string[] {
  if (values.FLY_MACHINE_ID || values.FLY_ALLOC_ID === undefined) return [];
  const { mistakes = [] } = machineId(values.FLY_ALLOC_ID);
  return mistakes.map((mistake) => `FLY_ALLOC_ID ${mistake}`);
}

/** Peers do not know a generated id. */
function fleetHasAnIdentity(values: Partial<SettingValues>): string[] {
  if (values.FLY_MACHINE_ID || values.FLY_ALLOC_ID || !hasFleet(values)) return [];
  return ['FLY_MACHINE_ID must be set when there is a fleet: set it, or FLEET=off'];
}

function sharedStoreHasAnIdentity(values: Partial<SettingValues>): string[] {
  const isShared = values.SESSION_STORE_URL && values.SESSION_STORE_URL.kind !== 'memory';
  if (!isShared || values.FLY_MACHINE_ID || values.FLY_ALLOC_ID) return [];
  return ['FLY_MACHINE_ID must be set when SESSION_STORE_URL names a database that others share'];
}

function peersCanBeDialed(values: Partial<SettingValues>): string[] {
  const asksDns = values.FLEET === 'auto' && values.FLY_APP_NAME !== undefined;
  if (!asksDns || values.PEER_PORT !== 0 || values.PEER_DIAL_PORT !== undefined) return [];
  return ['PEER_DIAL_PORT must be set when PEER_PORT is 0 and there is a fleet'];
}

function hasFleet({ FLEET, FLY_APP_NAME }: Partial<SettingValues>): boolean {
  return FLEET === 'auto' ? FLY_APP_NAME !== undefined : FLEET !== 'off' && FLEET !== undefined;
}

/** What the sidecar takes off a request can't be what tells the session. */
function affinityCookieIsNobodyElses(values: Partial<SettingValues>): string[] {
  const { AFFINITY_COOKIE: cookie, SESSION_PROTOCOLS: protocols = [] } = values;
  const isTaken = protocols.some(
    ({ idLocations, recognizedCookies = [] }) =>
      idLocations.some((location) => location.in === 'cookie' && location.name === cookie?.name) ||
      recognizedCookies.some((name) => name === cookie?.name),
  );
  if (!isTaken) return [];
  return [
    `AFFINITY_COOKIE must not be a cookie of the app's in SESSION_PROTOCOLS, both name ${cookie?.name}`,
  ];
}

/** What Fly.io suspends at most (https://fly.io/docs/reference/suspend-resume/). */
const MAX_SUSPENDED_MB = 2_048;

/** What a warning about `SUSPEND_AFTER` depends on. */
interface Suspending {
  readonly suspend: object | undefined;
  readonly identity: { readonly app: string | undefined; readonly isGenerated: boolean };
}

export function warnAboutSuspend(
  { suspend, identity }: Suspending,
  { FLY_VM_MEMORY_MB: memory }: Environment,
): string[] {
  if (!suspend) return [];
  if (identity.app === undefined || identity.isGenerated)
    return [
      'SUSPEND_AFTER has no effect: this is not a Fly Machine (FLY_APP_NAME and FLY_MACHINE_ID are not set)',
    ];
  if (!(Number(memory) > MAX_SUSPENDED_MB)) return [];
  return [
    `SUSPEND_AFTER may have no effect: Fly.io suspends Machines of up to ${MAX_SUSPENDED_MB} MB, this one has ${memory} MB`,
  ];
}
