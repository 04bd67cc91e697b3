/** A write-ahead log of any length: an idle reader keeps it from being checkpointed. */
import { statSync } from 'node:fs';
import Database from 'better-sqlite3';
import type { SessionStore } from '../../src/store/store.ts';
import type { Stage } from './bench.ts';
import { anyStoredKey, HOUR_MS, performAll } from './store-sessions.ts';

/** Later than any session in the file expires. */
const TOUCHED_TTL_MS = 3 * HOUR_MS;
/**
 * Touches between two checks of the log's length: each changes pages of the table and of its index.
 */
const TOUCHES = 500;

/**
 * Touches sessions of the file until the log has so many bytes; returns a function that ends the
 * reader.
 */
export async function lengthenLog(
  stage: Stage,
  store: SessionStore,
  path: string,
  bytes: number,
): Promise<() => void> {
  const reader = new Database(path, { readonly: true });
  stage.after(() => reader.close());
  reader.exec('BEGIN');
  reader.prepare('SELECT 1 FROM sessions').get();
  while (sizeOf(`${path}-wal`) < bytes) {
    const keys = Array.from({ length: TOUCHES }, () => anyStoredKey(stage.effort));
    await performAll(keys, TOUCHES, (key) => store.touch(key, TOUCHED_TTL_MS));
  }
  return () => void reader.close();
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
