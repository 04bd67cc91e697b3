/**
 * A small server of Gradio's HTTP protocol, as its own clients use it: an event joins the queue of
 * its session, whose stream brings the results; `/call/<function>` has events without a session.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { json } from 'node:stream/consumers';
import { z } from 'zod';
import { HERE, respondJson, urlOf, type Door } from '../../apps/door.ts';
import { noteEnded, noteOpened, noteRequest } from '../../apps/journal.ts';
import { beginEventStream, writeEvent } from './event-stream.ts';

const PREFIX = '/gradio_api';
const HEARTBEAT = `${PREFIX}/heartbeat/`;
const BEAT_EVERY_MS = 1_000;
const CALL = /^\/gradio_api\/call\/count(?:\/([^/]+))?$/;
const APP_ID = randomBytes(8).toString('hex');

const Joining = z.object({ session_hash: z.string() });

interface Session {
  count: number;
  readonly results: object[];
}

export function createGradioDoor(): Door {
  const app = new App();
  return {
    paths: ['/config', `${PREFIX}/`],
    handle: async (request, response) => {
      const { pathname } = urlOf(request);
      const called = CALL.exec(pathname);
      if (pathname === '/config') respondJson(response, 200, CONFIG);
      else if (pathname === `${PREFIX}/info`) respondJson(response, 200, INFO);
      else if (pathname === `${PREFIX}/queue/join`) await app.join(request, response);
      else if (pathname === `${PREFIX}/queue/data`) app.sendResults(request, response);
      else if (pathname.startsWith(HEARTBEAT)) app.keepAlive(request, response);
      else if (called?.[1] !== undefined) app.sendResult(request, response, called[1]);
      else if (called) app.call(response);
      else respondJson(response, 404, { detail: 'Not Found' });
    },
  };
}

class App {
  readonly #sessions = new Map<string, Session>();
  /** The results of calls without a session. */
  readonly #events = new Map<string, object>();
  #calls = 0;

  async join(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { session_hash: hash } = Joining.parse(await json(request));
    const session = this.#open(request, hash);
    const event = { event_id: randomBytes(16).toString('hex') };
    const output = { data: [{ ...HERE, count: (session.count += 1) }] };
    session.results.push(
      { msg: 'process_starts', ...event },
      { msg: 'process_completed', success: true, output, ...event },
    );
    respondJson(response, 200, event);
  }

  sendResults(request: IncomingMessage, response: ServerResponse): void {
    const hash = urlOf(request).searchParams.get('session_hash') ?? '';
    const session = this.#sessions.get(hash);
    noteRequest(request, hash, session !== undefined);
    beginEventStream(response);
    const lost = { msg: 'unexpected_error', message: 'Session not found', success: false };
    for (const result of session?.results.splice(0) ?? [lost]) writeEvent(response, result);
    writeEvent(response, { msg: 'close_stream' });
    response.end();
  }

  /** Open as long as the client has the page open. */
  keepAlive(request: IncomingMessage, response: ServerResponse): void {
    this.#open(request, urlOf(request).pathname.slice(HEARTBEAT.length));
    beginEventStream(response);
    const beat = (): void => writeEvent(response, 'ALIVE');
    const beating = setInterval(beat, BEAT_EVERY_MS).unref();
    response.once('close', () => clearInterval(beating));
    beat();
  }

  call(response: ServerResponse): void {
    const id = randomUUID();
    this.#events.set(id, { ...HERE, count: (this.#calls += 1) });
    noteOpened(id);
    respondJson(response, 200, { event_id: id });
  }

  sendResult(request: IncomingMessage, response: ServerResponse, id: string): void {
    const result = this.#events.get(id);
    noteRequest(request, id, result !== undefined);
    beginEventStream(response);
    if (result) writeEvent(response, [result], 'complete');
    else writeEvent(response, null, 'error');
    response.end();
    if (this.#events.delete(id)) noteEnded(id);
  }

  /** The client has chosen its id, so its first request opens it. */
  #open(request: IncomingMessage, hash: string): Session {
    const known = this.#sessions.get(hash);
    noteRequest(request, hash, known !== undefined);
    if (known) return known;
    const session = { count: 0, results: [] };
    this.#sessions.set(hash, session);
    noteOpened(hash);
    return session;
  }
}

const OUTPUT = { id: 1, type: 'json', component_class_id: 'json', props: {} };

const CONFIG = {
  ...{ version: '6.0.0', protocol: 'sse_v3', api_prefix: PREFIX, app_id: APP_ID },
  ...{ is_space: false, connect_heartbeat: true, enable_queue: true },
  components: [OUTPUT],
  dependencies: [
    {
      ...{ id: 0, api_name: 'count', api_visibility: 'public', queue: true, backend_fn: true },
      ...{
        inputs: [],
        outputs: [OUTPUT.id],
        targets: [],
        types: { generator: false, cancel: false },
      },
    },
  ],
};

const INFO = {
  named_endpoints: {
    '/count': {
      parameters: [],
      returns: [{ label: 'count', type: {}, python_type: { type: 'dict' }, component: 'Json' }],
    },
  },
  unnamed_endpoints: {},
};
