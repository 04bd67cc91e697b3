/** What is measured side by side. Each candidate is a separate process, alone on its core. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../support/free-port.ts';
import { OPEN_PATH, SESSION_HEADER } from './answers.ts';
import type { Workspace } from './compiled.ts';
import { neededForNginx, startNginx } from './nginx.ts';
import { startPinned, type Core, type PinnedProcess } from './pinned.ts';
import { untilListening } from './until-listening.ts';

export type CandidateName = 'floor' | 'direct' | 'http-proxy' | 'nginx' | 'sidecar';

export interface Candidate<Name extends string = CandidateName> {
  readonly name: Name;
  readonly port: number;
  readonly process: PinnedProcess;
}

/** How the candidates of one bench are started. */
export interface Surroundings {
  readonly workspace: Workspace;
  /** Settings of the sidecar, in addition to those of every bench. */
  readonly sidecarEnv?: NodeJS.ProcessEnv;
  /** Options of Node for every candidate. */
  readonly nodeOptions?: readonly string[];
}

/** The candidates that are installed. */
export function installed(names: readonly CandidateName[]): CandidateName[] {
  return names.filter((name) => name !== 'nginx' || neededForNginx.found !== undefined);
}

/**
 * Starts the app and the named candidates in front of it, except those not installed; `use` gets
 * them in this order.
 */
export function withCandidates<T>(
  names: readonly CandidateName[],
  surroundings: Surroundings,
  use: (candidates: readonly Candidate[]) => Promise<T>,
): Promise<T> {
  return withAll(
    installed(names).map((name) => ({ name, surroundings })),
    use,
  );
}

/**
 * Starts the app and sidecars in front of it, one per environment; `use` gets them in this order.
 */
export function withSidecars<T>(
  each: readonly Surroundings[],
  use: (sidecars: readonly Candidate[]) => Promise<T>,
): Promise<T> {
  return withAll(
    each.map((surroundings) => ({ name: 'sidecar', surroundings })),
    use,
  );
}

async function withAll<T>(
  wanted: readonly { readonly name: CandidateName; readonly surroundings: Surroundings }[],
  use: (candidates: readonly Candidate[]) => Promise<T>,
): Promise<T> {
  const app = await startServer('direct', 'load', []);
  const started = [app];
  try {
    const candidates: Candidate[] = [];
    for (const { name, surroundings } of wanted) {
      const candidate = name === 'direct' ? app : await start(name, app.port, surroundings);
      started.push(candidate);
      candidates.push(candidate);
    }
    return await use(candidates);
  } finally {
    await Promise.all(started.map(({ process }) => process.stop()));
  }
}

function start(
  name: Exclude<CandidateName, 'direct'>,
  appPort: number,
  surroundings: Surroundings,
): Promise<Candidate> {
  if (name === 'sidecar') return startSidecar(appPort, surroundings);
  if (name === 'nginx') return startNginxCandidate(appPort, surroundings);
  return startServer(name, 'candidate', [String(appPort)], surroundings.nodeOptions);
}

const SCRIPTS = { direct: 'app', floor: 'floor', 'http-proxy': 'http-proxy' } as const;

async function startServer(
  name: keyof typeof SCRIPTS,
  core: Core,
  args: readonly string[],
  nodeOptions: readonly string[] = [],
): Promise<Candidate> {
  const script = fileURLToPath(new URL(`processes/${SCRIPTS[name]}.ts`, import.meta.url));
  const process = startPinned({ core, command: [script, ...args], nodeOptions });
  const { port } = (await process.nextMessage()) as { port: number };
  return { name, port, process };
}

/** It writes its log to a file, as nginx does. */
async function startSidecar(
  appPort: number,
  { workspace, sidecarEnv, nodeOptions = [] }: Surroundings,
): Promise<Candidate> {
  const port = await freePort();
  const outputPath = join(workspace.directory, `${port}.log`);
  const env = {
    NODE_ENV: undefined,
    LOG_LEVEL: 'info',
    HOST: '127.0.0.1',
    PORT: String(port),
    PEER_PORT: '0',
    ADMIN_PORT: '0',
    UPSTREAM_URL: `http://127.0.0.1:${appPort}`,
    FLY_MACHINE_ID: 'm1',
    FLEET: 'off',
    SESSION_STORE_PATH: join(workspace.directory, `${port}.sqlite`),
    ...sidecarEnv,
  };
  const command = [workspace.sidecarScript, 'serve'];
  const process = startPinned({ core: 'candidate', command, nodeOptions, env, outputPath });
  const stop = async (): Promise<void> => {
    await process.stop();
    await rm(outputPath, { force: true });
  };
  await untilListening(port, process);
  return { name: 'sidecar', port, process: { ...process, stop } };
}

async function startNginxCandidate(
  appPort: number,
  { workspace }: Surroundings,
): Promise<Candidate> {
  const { found: program, missing } = neededForNginx;
  if (program === undefined) throw new Error(`there is no ${missing}`);
  const port = await freePort();
  const directory = join(workspace.directory, `nginx-${port}`);
  const process = await startNginx({ program, directory, port, appPort });
  return { name: 'nginx', port, process };
}

/** Sessions that the app has opened through the candidate; their ids as a client sees them. */
export async function openSessions(
  { port }: Pick<Candidate, 'port'>,
  count: number,
): Promise<string[]> {
  const ids: string[] = [];
  while (ids.length < count) {
    const response = await fetch(`http://127.0.0.1:${port}${OPEN_PATH}`, { method: 'POST' });
    await response.arrayBuffer();
    const id = response.headers.get(SESSION_HEADER);
    if (id === null) throw new Error(`no session opened: ${response.status}`);
    ids.push(id);
  }
  return ids;
}
