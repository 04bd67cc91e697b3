/** The sessions of a store, which the command opens itself: no sidecar is needed. */
import { stat } from 'node:fs/promises';
import type { SessionKey } from '../../session.ts';
import type { StoreConfig } from '../../config/config.ts';
import { retry, type RetryOptions } from '../../resilience.ts';
import { isPassing, MERGE_RETRIES, mergeSessions } from '../../sessions/import.ts';
import { selectSessions } from '../../sessions/document.ts';
import { limitsOf, openConfiguredStore, type StoreParts } from '../../app/adapters.ts';
import { toSqliteStoreError } from '../../store/sqlite/errors.ts';
import { describeSqliteOpenFailure, prepareStorePath } from '../../store/sqlite/sqlite.ts';
import { openFileStore } from '../../store/sqlite/file-store.ts';
import { StoreError, type SessionStore } from '../../store/store.ts';
import { CommandFailed, type BackendParts, type SessionBackend } from './backend.ts';
import { codeOf } from '../../errors.ts';

/** As many as Postgres takes in two round trips: a lookup must not take longer than half a second. */
const MERGE_BATCH_SIZE = 400;

export async function openStoreBackend(
  settings: StoreConfig,
  parts: BackendParts,
): Promise<SessionBackend> {
  await assertExists(settings, parts.mayCreate);
  const { clock, random, notify } = parts;
  const onError = (error: StoreError): void => notify(error.message);
  // The limit is for the sidecars to enforce: this command evicts nothing.
  const unbounded = { ...settings, maxSessions: Number.MAX_SAFE_INTEGER };
  const store = await openStore(unbounded, { clock, random, onError });
  const retries: RetryOptions = { ...MERGE_RETRIES, isRetryable: isPassing, clock, random };
  return {
    name: nameOf(settings),
    entries: (selection) => selectSessions(store.entries(), selection),
    find: (key) => retry(() => find(store, key), retries),
    remove: (key, ifOwner) => retry(() => store.delete(key, ifOwner), retries),
    merge: (bindings, isDryRun) => mergeSessions(bindings, { store, clock, random, isDryRun }),
    mergeBatchSize: MERGE_BATCH_SIZE,
    close: () => store.close(),
  };
}

function openStore(settings: StoreConfig, parts: StoreParts): Promise<SessionStore> {
  return settings.url ? openConfiguredStore(settings, parts) : openFile(settings, parts);
}

/** A damaged file stays where it is: only a sidecar moves it to quarantine. */
async function openFile(settings: StoreConfig, parts: StoreParts): Promise<SessionStore> {
  const { retryCount, retryDelayMs } = settings;
  const path = await prepareStorePath(settings.path);
  try {
    const limits = limitsOf(settings);
    const onClosedDamaged = (): void => undefined;
    return await openFileStore({
      path,
      limits,
      retryCount,
      retryDelayMs,
      onClosedDamaged,
      ...parts,
    });
  } catch (error) {
    throw describeSqliteOpenFailure(path, toSqliteStoreError('opening', error));
  }
}

async function find(store: SessionStore, key: SessionKey) {
  const found = await store.lookup(key);
  if (found === 'unknown') throw new StoreError('passing', 'the session store is not available');
  return found === 'absent' ? undefined : found;
}

async function assertExists(
  { isEnabled, url, path }: StoreConfig,
  mayCreate: boolean,
): Promise<void> {
  if (!isEnabled) throw CommandFailed.settings('there is no store: SESSION_STORE_ENABLED is false');
  if (url?.kind === 'memory') throw CommandFailed.unavailable(IN_MEMORY);
  if (url || mayCreate) return;
  const isMissing = await stat(path).then(
    () => false,
    (error: unknown) => codeOf(error) === 'ENOENT',
  );
  if (isMissing) {
    const message = `there is no session store ${JSON.stringify(path)}; ${NAME_ANOTHER}`;
    throw CommandFailed.unavailable(message);
  }
}

const IN_MEMORY =
  'the sessions are in the memory of the sidecar, and only its admin listener shows them: ' +
  'set ADMIN_TOKEN for both';
const NAME_ANOTHER = 'name another with --store, SESSION_STORE_PATH or SESSION_STORE_URL';

/** Without the user name, the password and the query of the URL. */
function nameOf({ url, path, namespace }: StoreConfig): string {
  if (!url) return `the SQLite file ${JSON.stringify(path)}`;
  const { protocol, host, pathname } = new URL(url.href);
  return `${protocol}//${host}${pathname}, namespace ${namespace}`;
}
