/** Which sessions somebody means who knows an id. */
import { splitOwnerHint } from '../../protocols/owner-hint.ts';
import { sessionKeyOf, type SessionId, type SessionKey } from '../../session.ts';

/**
 * The key of the id as it is, and of what is before a hint, if it ends like one. A client sees
 * `id~machine` where the app has said `id`, and an id may end so by itself: without the sidecar's
 * view of the fleet nobody can tell.
 */
export function keysOf(id: SessionId): readonly SessionKey[] {
  const hinted = splitOwnerHint(id);
  return hinted ? [sessionKeyOf(id), sessionKeyOf(hinted.id)] : [sessionKeyOf(id)];
}
