/**
 * The writer thread: it alone holds the writing connection, waits for locks, commits and
 * checkpoints, so that the event loop waits for none of them. Started by `thread.ts`; it responds
 * request by request, in order, and ends after `close`.
 */
import { accessSync, constants } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import { collectGarbage } from '../../collect-garbage.ts';
import { isBusy, isIoError, StaleFileError, toSqliteStoreError } from './errors.ts';
import { fileMoved, haveMoved, logOf } from './file.ts';
import { openForWriting } from './connection.ts';
import type { OpenedForWriting } from './connection.ts';
import type {
  WriterError,
  RequestKind,
  WriterResponses,
  WriterMessage,
  WriterRequest,
  WriterSettings,
  WriterStart,
} from './protocol.ts';
import type { Transactions } from './transactions.ts';
import { StoreError } from '../store.ts';

if (parentPort !== null) serve(parentPort, workerData as WriterSettings);

function serve(port: MessagePort, settings: WriterSettings): void {
  // After a failure the port has no listener, and the thread ends.
  port.postMessage(start(port, settings));
  collectGarbage();
}

function start(port: MessagePort, settings: WriterSettings): WriterStart {
  try {
    const opened = openForWriting(settings);
    port.on('message', (request: WriterRequest) => {
      port.postMessage(replyTo(request, opened, settings.path));
      if (request.kind === 'close') port.close();
    });
    return { kind: 'opened', files: opened.files };
  } catch (error) {
    return refusalOf('opening', error, settings.path);
  }
}

function replyTo(request: WriterRequest, opened: OpenedForWriting, path: string): WriterMessage {
  const reply = attempt(request, opened, path);
  // After the commit: what is acknowledged now is in the file that the next opener of the path
  // finds.
  const isLost = request.kind !== 'close' && haveMoved(path, opened.files);
  return isLost ? { kind: 'stale', message: fileMoved(path).message } : reply;
}

function attempt(request: WriterRequest, opened: OpenedForWriting, path: string): WriterMessage {
  try {
    return { kind: 'response', response: perform(request, opened.transactions) };
  } catch (error) {
    return refusalOf(`store ${request.kind}`, error, path);
  }
}

function perform(request: WriterRequest, transactions: Transactions): WriterResponses[RequestKind] {
  switch (request.kind) {
    case 'write':
      return transactions.write(request);
    case 'cleanup':
      return transactions.cleanup(request);
    case 'count':
      return transactions.count(request);
    case 'page':
      return transactions.page(request);
    case 'pick':
      return transactions.pick(request);
    case 'addCopies':
      return transactions.addCopies(request);
    case 'stamp':
      return transactions.stamp(request);
    case 'close': {
      transactions.close(request);
      return;
    }
  }
}

function refusalOf(doing: string, error: unknown, path: string): WriterError {
  if (isBusy(error)) return { kind: 'busy' };
  const failure = explain(toSqliteStoreError(doing, error), path);
  const { code, message } = failure;
  if (failure instanceof StaleFileError) return { kind: 'stale', message };
  return { kind: 'failed', failure: { code, message } };
}

/**
 * SQLite reports a file system that became read-only after the file was opened as a failing disk.
 */
function explain(error: StoreError, path: string): StoreError {
  if (error.code !== 'passing' || !isIoError(error.cause)) return error;
  try {
    for (const each of [path, logOf(path)]) accessSync(each, constants.W_OK);
    return error;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new StoreError('fatal', `${error.message}: it is not writable (${reason})`, {
      cause,
    });
  }
}
