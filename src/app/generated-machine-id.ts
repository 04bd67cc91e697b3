/**
 * Stores a generated Machine id next to the store file, so that a sidecar outside Fly.io is the same
 * Machine after a restart: its bindings and the hints in its clients' ids name it.
 *
 * In a separate file, not in the database: the id is needed before the store is open, and while the
 * store is damaged or can't be opened. A copy of the store file alone does not carry the id.
 */
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { parseMachineId, type MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { createDirectories } from '../store/sqlite/sqlite.ts';

/** In ms: a hanging disk must not block the start. */
const TIMEOUT_MS = 1_000;
const MADE_UP = /^(local\d{9})\n?$/;

export interface PersistedId {
  readonly config: Config;
  /** Why the id could not be stored. */
  readonly warning?: string;
}

/** The configuration with the id of an earlier start, or with a new id that is stored for later starts. Never rejects. */
export async function persistGeneratedMachineId(
  config: Config,
  clock: Clock,
): Promise<PersistedId> {
  const { identity, store } = config;
  if (!identity.isGenerated || !store.isEnabled || store.url) return { config };
  const path = `${store.path}.machine`;
  const timeout = new AbortController();
  try {
    const machine = await Promise.race([
      readOrWrite(path, identity.machine),
      clock.sleep(TIMEOUT_MS, timeout.signal).then(() => undefined),
    ]);
    if (machine === undefined) return { config, warning: warningOf(path, 'the disk hangs') };
    return {
      config: Object.freeze({ ...config, identity: Object.freeze({ ...identity, machine }) }),
    };
  } catch (error) {
    return { config, warning: warningOf(path, (error as NodeJS.ErrnoException).code ?? 'unknown') };
  } finally {
    timeout.abort();
  }
}

function warningOf(path: string, reason: string): string {
  return `could not store the generated Machine id in ${path} (${reason}): it changes with every start; set FLY_MACHINE_ID`;
}

async function readOrWrite(path: string, madeUp: MachineId): Promise<MachineId> {
  const found = MADE_UP.exec(await textOf(path))?.[1];
  const kept = found === undefined ? undefined : parseMachineId(found);
  if (kept !== undefined) return kept;
  await createDirectories(dirname(path));
  await writeWhole(path, `${madeUp}\n`, `${path}.${madeUp}`);
  return madeUp;
}

/** An unreadable file may still be replaced. */
function textOf(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}

/** Atomic: writes a temporary file and renames it. */
async function writeWhole(path: string, text: string, temporaryPath: string): Promise<void> {
  try {
    await writeFile(temporaryPath, text, { mode: 0o600, flush: true });
    await rename(temporaryPath, path);
  } catch (error) {
    await rm(temporaryPath, { force: true }).catch(() => undefined);
    throw error;
  }
}
