/** The environment of a run: two Machines, each with an app and, unless it is direct, a sidecar. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createWorkspace } from '../../bench/compiled.ts';
import type { Scope } from '../../bench/scope.ts';
import { freePort } from '../../support/free-port.ts';
import { AppProcess } from './app-process.ts';
import type { KnownPorts } from './checks/descriptors.ts';
import type { Machine } from './machine.ts';
import { SidecarProcess, type SidecarPorts } from './sidecar-process.ts';

const NAMES = ['m1', 'm2'] as const;
/** Short, because the script waits below for pooled connections to close. */
const KEEP_ALIVE_MS = 3_000;
/** Where clients keep connections to the app itself. */
const DIRECT_KEEP_ALIVE_MS = 600_000;
/** So short that the bindings of a run expire soon after it. */
const SESSION_TTL_MS = 10_000;
const SESSION_CLEANUP_INTERVAL_MS = 2_000;

export interface Stage {
  /** The targets of the load. */
  readonly machines: readonly Machine[];
  readonly apps: readonly AppProcess[];
  /** None in a direct run. */
  readonly sidecars: readonly SidecarProcess[];
  /** Resolves with the process that ended, if one of them ends by itself. */
  readonly sidecarEnded: Promise<string>;
  /** Logs and session stores. Removed after the run, unless it is kept. */
  readonly directory: string;
  keepDirectory(): void;
  /** What identifies the sockets of that Machine's sidecar. */
  portsOf(name: string): KnownPorts;
}

export async function createStage(scope: Scope, isDirect: boolean): Promise<Stage> {
  const directory = await mkdtemp(join(tmpdir(), 'fly-affinity-soak-'));
  let isKept = false;
  scope.after(() => (isKept ? undefined : rm(directory, { recursive: true, force: true })));
  const appPorts = await Promise.all(NAMES.map(freePort));
  const apps = NAMES.map((name, at) => {
    const keepAliveMs = isDirect ? DIRECT_KEEP_ALIVE_MS : KEEP_ALIVE_MS;
    return new AppProcess({ name, port: appPorts[at] ?? 0, keepAliveMs });
  });
  scope.after(() => Promise.all(apps.map((app) => app.kill())));
  await Promise.all(apps.map((app) => app.start()));
  const sidecars = isDirect ? [] : await startSidecars(scope, directory, appPorts);
  const ports = isDirect ? appPorts : sidecars.map((sidecar) => sidecar.ports.public);
  return {
    machines: NAMES.map((name, at) => ({ name, port: ports[at] ?? 0 })),
    apps,
    sidecars,
    sidecarEnded: Promise.race(
      sidecars.map((sidecar) =>
        sidecar.exited().then((how) => `${sidecar.name} has ended: ${how}`),
      ),
    ),
    directory,
    keepDirectory: () => (isKept = true),
    portsOf: (name) => knownPorts(name, sidecars, appPorts),
  };
}

async function startSidecars(
  scope: Scope,
  directory: string,
  appPorts: readonly number[],
): Promise<readonly SidecarProcess[]> {
  const { sidecarScript } = await createWorkspace(scope);
  const places = await Promise.all(NAMES.map(async (name) => ({ name, ports: await freePorts() })));
  const fleet = places.map(({ name, ports }) => `${name}@127.0.0.1:${ports.peer}`).join(',');
  const sidecars = places.map(({ name, ports }, at) => {
    const sidecar = new SidecarProcess({
      name,
      script: sidecarScript,
      ports,
      env: {
        UPSTREAM_URL: `http://127.0.0.1:${appPorts[at] ?? 0}`,
        FLEET: fleet,
        SESSION_STORE_PATH: join(directory, `${name}.sqlite`),
        SESSION_STORE_TTL_MS: String(SESSION_TTL_MS),
        SESSION_STORE_CLEANUP_INTERVAL_MS: String(SESSION_CLEANUP_INTERVAL_MS),
      },
      logFile: join(directory, `${name}.log`),
      errorFile: join(directory, `${name}.errors`),
    });
    scope.after(() => sidecar.kill());
    return sidecar;
  });
  await Promise.all(sidecars.map((sidecar) => sidecar.untilReady()));
  return sidecars;
}

function knownPorts(
  name: string,
  sidecars: readonly SidecarProcess[],
  appPorts: readonly number[],
): KnownPorts {
  const at = sidecars.findIndex((sidecar) => sidecar.name === name);
  const ports = sidecars[at]?.ports;
  if (!ports) throw new Error(`there is no sidecar ${name}`);
  const others = sidecars.filter((_, other) => other !== at);
  const otherPeers = others.map((other) => other.ports.peer);
  return { ...ports, app: appPorts[at] ?? 0, otherPeers };
}

async function freePorts(): Promise<SidecarPorts> {
  const [edge, peer, admin] = await Promise.all([freePort(), freePort(), freePort()]);
  return { public: edge, peer, admin };
}
