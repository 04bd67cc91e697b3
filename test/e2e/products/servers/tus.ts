/**
 * tus with its own server: one that writes whole URLs and one that writes relative ones. The files of
 * each process are in a folder of its own, so no other Machine can continue an upload.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FileStore } from '@tus/file-store';
import { EVENTS, Server } from '@tus/server';
import { urlOf, type Door } from '../../apps/door.ts';
import { noteEnded, noteOpened, noteRequest } from '../../apps/journal.ts';
import { nameHere } from './here-headers.ts';

const WHOLE_URLS = '/files';
const RELATIVE_URLS = '/uploads';

export function createTusDoor(): Door {
  const uploads = new Set<string>();
  const directory = mkdtempSync(join(tmpdir(), 'fly-affinity-tus-'));
  removeAtExit(directory);
  const whole = startTus(WHOLE_URLS, join(directory, 'whole'), uploads);
  const relative = startTus(RELATIVE_URLS, join(directory, 'relative'), uploads);

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = urlOf(request);
    if (request.method !== 'POST') noteRequest(request, pathname, uploads.has(pathname));
    nameHere(response);
    await (pathname.startsWith(WHOLE_URLS) ? whole : relative).handle(request, response);
  }

  return {
    paths: [WHOLE_URLS, `${WHOLE_URLS}/`, RELATIVE_URLS, `${RELATIVE_URLS}/`],
    handle,
  };
}

function startTus(path: string, directory: string, uploads: Set<string>): Server {
  const tus = new Server({
    path,
    relativeLocation: path === RELATIVE_URLS,
    datastore: new FileStore({ directory }),
  });
  tus.on(EVENTS.POST_CREATE, (_request, { id }) => {
    uploads.add(`${path}/${id}`);
    noteOpened(`${path}/${id}`);
  });
  tus.on(EVENTS.POST_TERMINATE, (_request, _response, id) => {
    uploads.delete(`${path}/${id}`);
    noteEnded(`${path}/${id}`);
  });
  return tus;
}

/** A process that a signal ends emits no `exit` by itself. */
function removeAtExit(directory: string): void {
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  process.once('SIGINT', () => process.exit());
  process.once('SIGTERM', () => process.exit());
}
