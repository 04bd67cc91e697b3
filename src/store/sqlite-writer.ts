/**
 * The thread that writes: it alone holds the writing connection, waits for locks, commits and
 * checkpoints, so that the event loop waits for none of them. Started by `sqlite-thread.ts`; it
 * answers request by request, in order, and ends after `close`.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { isBusy, toStoreError } from './sqlite-errors.ts';
import type {
  RequestKind,
  WriterAnswers,
  WriterReply,
  WriterRequest,
  WriterSettings,
} from './sqlite-protocol.ts';
import { migrateSqlite } from './sqlite-schema.ts';
import { createTransactions } from './sqlite-transactions.ts';
import type { Transactions } from './sqlite-transactions.ts';
import { StoreError } from './store.ts';

/** Twenty starters migrate within milliseconds; on a slow disk it takes longer. */
const START_BUSY_TIMEOUT_MS = 10_000;
/** One attempt's wait for the write lock. The retries are the main thread's, which has the clock. */
const WRITE_BUSY_TIMEOUT_MS = 1_000;
/** Each failed one waits for the starter that is in the way, so a few would do. */
const MAX_WAL_ATTEMPTS = 50;
/** A write-ahead log that a burst made longer is cut to this when it starts anew. */
const MAX_IDLE_WAL_BYTES = 16 * 1024 * 1024;

if (parentPort !== null) serve(parentPort, workerData as WriterSettings);

function serve(port: MessagePort, settings: WriterSettings): void {
  const opened = replyOf('opening', () => {
    const transactions = createTransactions(openDatabase(settings.path), settings);
    port.on('message', (request: WriterRequest) => {
      port.postMessage(replyOf(`store ${request.kind}`, () => perform(request, transactions)));
      if (request.kind === 'close') port.close();
    });
    return undefined;
  });
  // After a failure nobody listens to the port, and the thread ends.
  port.postMessage(opened);
}

function perform(request: WriterRequest, transactions: Transactions): WriterAnswers[RequestKind] {
  switch (request.kind) {
    case 'write':
      return transactions.write(request);
    case 'cleanup':
      return transactions.cleanup(request);
    case 'count':
      return transactions.count(request);
    case 'page':
      return transactions.page(request);
    case 'stamp':
      return transactions.stamp(request);
    case 'close': {
      transactions.close(request);
      return;
    }
  }
}

function replyOf(doing: string, answer: () => WriterAnswers[RequestKind]): WriterReply {
  try {
    return { kind: 'answer', answer: answer() };
  } catch (error) {
    if (isBusy(error)) return { kind: 'busy' };
    const { code, message } = toStoreError(doing, error);
    return { kind: 'failed', failure: { code, message } };
  }
}

function openDatabase(path: string): Database.Database {
  const db = new Database(path, { timeout: START_BUSY_TIMEOUT_MS });
  try {
    migrateSqlite(db);
    switchToWal(db);
    // In WAL mode a crash of the process loses nothing; a power cut takes the app's memory too.
    db.pragma('synchronous = NORMAL');
    db.pragma(`journal_size_limit = ${MAX_IDLE_WAL_BYTES}`);
    probeWriting(db);
    db.pragma(`busy_timeout = ${WRITE_BUSY_TIMEOUT_MS}`);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/**
 * SQLite answers "busy" at once, without the busy timeout, where two starters would wait for each
 * other. Then taking the write lock waits until the other one is done.
 */
function switchToWal(db: Database.Database): void {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const mode = db.pragma('journal_mode = WAL', { simple: true });
      if (mode === 'wal') return;
      throw new StoreError('fatal', `its file system allows no write-ahead log (${String(mode)})`);
    } catch (error) {
      if (!isBusy(error) || attempt === MAX_WAL_ATTEMPTS) throw error;
      takeWriteLock(db);
    }
  }
}

/** SQLite opens a file that may not be written without a word; so ask, unless somebody is writing. */
function probeWriting(db: Database.Database): void {
  db.pragma('busy_timeout = 0');
  try {
    takeWriteLock(db);
  } catch (error) {
    if (!isBusy(error)) throw error;
  }
}

function takeWriteLock(db: Database.Database): void {
  db.exec('BEGIN IMMEDIATE; ROLLBACK');
}
