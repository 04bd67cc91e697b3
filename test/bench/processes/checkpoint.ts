/** Checkpoints the log of the given SQLite file completely, on each message. */
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';

/** For a writer that holds the lock. */
const BUSY_TIMEOUT_MS = 60_000;
/** For a checkpoint of the writer's own, which SQLite does not wait for. */
const PAUSE_MS = 5;

const db = new Database(process.argv[2] ?? '', { timeout: BUSY_TIMEOUT_MS });
process.on('message', () => void emptyLog().then((failure) => process.send?.({ failure })));
process.on('disconnect', () => process.exit());
process.send?.('ready');

/** Why it could not. */
async function emptyLog(): Promise<string | undefined> {
  const deadline = performance.now() + BUSY_TIMEOUT_MS;
  try {
    while (isBusy()) {
      if (performance.now() > deadline) return 'the log is in use';
      await sleep(PAUSE_MS);
    }
    return undefined;
  } catch (error) {
    return String(error);
  }
}

function isBusy(): boolean {
  const [result] = db.pragma('wal_checkpoint(TRUNCATE)') as { busy: number }[];
  return result?.busy !== 0;
}
