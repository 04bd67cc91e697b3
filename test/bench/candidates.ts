/** What is measured side by side. Each candidate is a process of its own, alone on its core. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { OPEN_PATH, SESSION_HEADER } from './answers.ts';
import type { Workspace } from './compiled.ts';
import { startPinned, type Core, type PinnedProcess } from './pinned.ts';

export type CandidateName = 'floor' | 'direct' | 'http-proxy' | 'sidecar';

export interface Candidate {
  readonly name: CandidateName;
  readonly port: number;
  readonly process: PinnedProcess;
}

/** How the candidates of one bench are started. */
export interface Surroundings {
  readonly workspace: Workspace;
  /** Of the sidecar, on top of what every bench has. */
  readonly sidecarEnv?: NodeJS.ProcessEnv;
  /** Options of Node for every candidate. */
  readonly nodeOptions?: readonly string[];
}

const START_TIMEOUT_MS = 15_000;

/** Starts the app and those named in front of it; `use` gets them in this order. */
export function withCandidates<T>(
  names: readonly CandidateName[],
  surroundings: Surroundings,
  use: (candidates: readonly Candidate[]) => Promise<T>,
): Promise<T> {
  return withAll(
    names.map((name) => ({ name, surroundings })),
    use,
  );
}

/** Starts the app and sidecars in front of it, one for each surroundings; `use` gets them in this order. */
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

async function startSidecar(
  appPort: number,
  { workspace, sidecarEnv, nodeOptions = [] }: Surroundings,
): Promise<Candidate> {
  const port = await freePort();
  const env = {
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
  const process = startPinned({ core: 'candidate', command, nodeOptions, env });
  await untilListening(port, process);
  return { name: 'sidecar', port, process };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function untilListening(port: number, { child }: PinnedProcess): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await accepts(port))) {
    if (child.exitCode !== null) throw new Error(`the sidecar has ended: ${child.exitCode}`);
    if (performance.now() > deadline) throw new Error('the sidecar does not listen');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    const finish = (isListening: boolean): void => {
      socket.destroy();
      resolve(isListening);
    };
    socket.once('connect', () => finish(true));
    socket.once('error', () => finish(false));
  });
}

/** Sessions that the app has opened through the candidate; their ids as a client sees them. */
export async function openSessions({ port }: Candidate, count: number): Promise<string[]> {
  const ids: string[] = [];
  while (ids.length < count) {
    const answer = await fetch(`http://127.0.0.1:${port}${OPEN_PATH}`, { method: 'POST' });
    await answer.arrayBuffer();
    const id = answer.headers.get(SESSION_HEADER);
    if (id === null) throw new Error(`no session opened: ${answer.status}`);
    ids.push(id);
  }
  return ids;
}
