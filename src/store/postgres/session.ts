/**
 * What a session at the server is set to, where it is ours alone. Behind PgBouncer in transaction
 * mode it is not (https://www.pgbouncer.org/features.html): the next statement may go to another
 * one, which knows nothing of our settings and of no statement that was prepared.
 *
 *     connect with settings ─ refused ─> connect without; the session is not ours
 *                           └ accepted ─ in force ─> ours: statements are prepared once, and kept
 *                                        └ not (a pooler ignores them) ─> not ours
 *
 * Either way no session is relied on for anything else: no locks, no SET but SET LOCAL.
 */
import { hash } from 'node:crypto';
import { postgresCodeOf } from './errors.ts';

/**
 * How long the server works on a statement, in ms: less than its caller waits, so that it hears of
 * it. Such a number that nobody else has set it.
 */
const STATEMENT_LIMIT_MS = 907;
/** A plan that is kept may have been made for a table with a few rows, and is used for a million. */
const SETTINGS = `-c statement_timeout=${STATEMENT_LIMIT_MS} -c enable_seqscan=off`;

/** To be asked in a session: whether the settings are in force. */
export const IS_OURS = `
  SELECT current_setting('statement_timeout') = '${STATEMENT_LIMIT_MS}ms' AS is_ours`;

/** The settings go before those that somebody else has put into the URL. */
export function withSettings(url: string): string {
  const set = new URL(url);
  const options = set.searchParams.get('options');
  set.searchParams.set('options', options === null ? SETTINGS : `${SETTINGS} ${options}`);
  return set.href;
}

/** All of PgBouncer's own errors have this code, so that the message has to tell (https://github.com/pgbouncer/pgbouncer/issues/907). */
export function areSettingsRefused(error: unknown): boolean {
  return postgresCodeOf(error) === '08P01' && String(error).includes('startup parameter');
}

/** What was prepared is not there, or was prepared by another: the session is not ours after all. */
export function isSessionShared(error: unknown): boolean {
  return postgresCodeOf(error) === '26000' || postgresCodeOf(error) === '42P05';
}

/** The same for the same text only, so that a statement of another version is never taken for it. */
export function createStatementNames(): (text: string) => string {
  const names = new Map<string, string>();
  return (text) => {
    const name = names.get(text) ?? `fly_affinity_${hash('sha256', text).slice(0, 16)}`;
    names.set(text, name);
    return name;
  };
}
