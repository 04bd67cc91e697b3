/**
 * A small Jupyter server: sessions, kernels, and the WebSocket of each kernel, whose only command
 * counts (https://jupyter-server.readthedocs.io/en/latest/developers/rest-api.html).
 */
import { randomBytes, randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { json } from 'node:stream/consumers';
import { WebSocketServer } from 'ws';
import { z } from 'zod';
import { HERE, respondJson, urlOf, type Door } from '../../apps/door.ts';
import { noteEnded, noteOpened, noteRequest } from '../../apps/journal.ts';
import { connectToKernel, type Kernel } from './jupyter-kernel.ts';

const KERNELS = '/api/kernels';
const SESSIONS = '/api/sessions';
/** JupyterLab itself, in a browser. */
const LAB = '/lab';

interface Session {
  readonly id: string;
  readonly path: string;
  kernel: Kernel;
}

const Creation = z.object({ path: z.string() });

export function createJupyterDoor(): Door {
  const memory = new Memory();
  const sockets = new WebSocketServer({ noServer: true });
  return {
    paths: [LAB, KERNELS, SESSIONS, `${KERNELS}/`, `${SESSIONS}/`],
    handle: async (request, response) => {
      const { pathname } = urlOf(request);
      if (pathname === LAB) {
        response.setHeader('set-cookie', `_xsrf=2|${randomBytes(16).toString('hex')}; Path=/`);
        respondJson(response, 200, HERE);
      } else if (pathname === KERNELS) {
        handleKernels(memory, request, response);
      } else if (pathname === SESSIONS) {
        await handleSessions(memory, request, response);
      } else {
        const { id, session, kernel } = memory.find(request);
        if (session) handleSession(memory, request, response, session);
        else if (kernel) handleKernel(memory, request, response, kernel);
        else respondJson(response, 404, { ...HERE, message: `does not exist: ${id}` });
      }
    },
    upgrade: (request, socket, head) => {
      const { kernel } = memory.find(request);
      if (!kernel) {
        socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n');
        return;
      }
      sockets.handleUpgrade(request, socket, head, (client) => connectToKernel(client, kernel));
    },
  };
}

class Memory {
  readonly kernels = new Map<string, Kernel>();
  readonly sessions = new Map<string, Session>();

  startKernel(): Kernel {
    const kernel = { id: randomUUID(), executions: 0 };
    this.kernels.set(kernel.id, kernel);
    noteOpened(kernel.id);
    return kernel;
  }

  shutDownKernel({ id }: Kernel): void {
    this.kernels.delete(id);
    noteEnded(id);
  }

  openSession(path: string): Session {
    const session = { id: randomUUID(), path, kernel: this.startKernel() };
    this.sessions.set(session.id, session);
    noteOpened(session.id);
    return session;
  }

  shutDownSession({ id, kernel }: Session): void {
    this.sessions.delete(id);
    noteEnded(id);
    this.shutDownKernel(kernel);
  }

  /** What the path names: `/api/kernels/<id>`, and more. */
  find(request: IncomingMessage): { id: string; session?: Session; kernel?: Kernel } {
    const id = urlOf(request).pathname.split('/')[3] ?? '';
    const session = this.sessions.get(id);
    const kernel = this.kernels.get(id);
    noteRequest(request, id, session !== undefined || kernel !== undefined);
    return { id, ...(session && { session }), ...(kernel && { kernel }) };
  }
}

function handleKernels(
  memory: Memory,
  { method }: IncomingMessage,
  response: ServerResponse,
): void {
  if (method === 'POST') respondJson(response, 201, shownKernel(memory.startKernel()));
  else respondJson(response, 200, [...memory.kernels.values()].map(shownKernel));
}

async function handleSessions(
  memory: Memory,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method !== 'POST') {
    respondJson(response, 200, [...memory.sessions.values()].map(shownSession));
    return;
  }
  const { path } = Creation.parse(await json(request));
  respondJson(response, 201, shownSession(memory.openSession(path)));
}

function handleSession(
  memory: Memory,
  { method }: IncomingMessage,
  response: ServerResponse,
  session: Session,
): void {
  if (method === 'DELETE') {
    memory.shutDownSession(session);
    response.writeHead(204).end();
    return;
  }
  if (method === 'PATCH') {
    // The only change that is supported: another kernel.
    memory.shutDownKernel(session.kernel);
    session.kernel = memory.startKernel();
  }
  respondJson(response, 200, shownSession(session));
}

/** `DELETE` and `POST .../interrupt` have no response body. */
function handleKernel(
  memory: Memory,
  { method }: IncomingMessage,
  response: ServerResponse,
  kernel: Kernel,
): void {
  if (method === 'DELETE') memory.shutDownKernel(kernel);
  if (method === 'GET') respondJson(response, 200, shownKernel(kernel));
  else response.writeHead(204).end();
}

function shownKernel({ id }: Kernel): object {
  const last_activity = new Date(0).toISOString();
  return { id, name: 'counting', last_activity, execution_state: 'idle', connections: 1 };
}

function shownSession({ id, path, kernel }: Session): object {
  return { id, path, name: path, type: 'notebook', kernel: shownKernel(kernel) };
}
