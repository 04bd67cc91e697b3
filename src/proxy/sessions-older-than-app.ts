/**
 * Sessions older than the app process, which the sidecar detects in `run` mode. Such a session may have
 * ended with an earlier process, or survived the restart. The responses of the app decide:
 *
 *   older --2xx, 101--> known: the app still has the session
 *     |                      ^
 *     +--400, 404,…--> rejected --2xx, 101
 *
 * Apps reject an unknown id with different statuses; the server of MCP's examples returns 400, after
 * which no client starts a new session.
 */
import type { Binding, MachineId, SessionKey } from '../session.ts';
import type { RequestHead, ResponseHead } from '../protocols/heads.ts';
import { accepts } from './app-responses.ts';
import type { Routed } from '../routing/route.ts';

export interface SessionsOlderThanAppOptions {
  readonly self: MachineId;
  /** In ms since the epoch; undefined outside `run`, where no session counts as older. */
  readonly appStartedAt: number | undefined;
  /** The app has rejected the first such session. */
  readonly onFirstRejected: () => void;
}

/**
 * Statuses with which apps reject an unknown id: 400 (Engine.IO, MCP servers), 404, 410, and 422 of
 * frameworks that validate. Other statuses are about something else: authentication (401, 403, 407, 419),
 * the form of the request (405, 406, 411 to 415, 417, 431), or its timing (408, 409, 425, 429).
 */
const REJECTIONS: ReadonlySet<number> = new Set([400, 404, 410, 422]);

/** The maximum number of remembered keys, about 16 MB. */
const MAX_KEYS = 100_000;

export function isOlderThanApp(
  { createdAt }: Pick<Binding, 'createdAt'>,
  appStartedAt: number | undefined,
): boolean {
  return appStartedAt !== undefined && createdAt < appStartedAt;
}

export class SessionsOlderThanApp {
  readonly #options: SessionsOlderThanAppOptions;
  readonly #known = new Set<SessionKey>();
  readonly #rejected = new Set<SessionKey>();
  #hasReported = false;

  constructor(options: SessionsOlderThanAppOptions) {
    this.#options = options;
  }

  /**
   * Records the response of the app. True if the app rejects a session from before its start that it has
   * not accepted since: the client then gets the protocol's "session not found". HOT PATH.
   */
  isRejected(request: RequestHead, routed: Routed, response: ResponseHead): boolean {
    const { key, binding, ids, decision } = routed;
    if (this.#options.appStartedAt === undefined || key === undefined) return false;
    if (ids.kind !== 'found' || decision.kind !== 'local') return false;
    if (!this.#isOlder(binding) && !this.#rejected.has(key)) return false;
    if (accepts(request, response)) this.#noteKnown(key);
    else if (ids.protocol.mintedBy === 'app' && rejects(request, response)) {
      return !this.#isKnown(key) && this.#noteRejected(key);
    }
    return false;
  }

  /** Whether a binding comes from a client's claim at an earlier process, which the current one may not know. */
  isVoid(binding: Binding): boolean {
    return binding.origin !== 'learned' && this.#isOlder(binding) && !this.#isKnown(binding.key);
  }

  #isOlder(binding: Binding | undefined): boolean {
    const { self, appStartedAt } = this.#options;
    return binding?.machine === self && isOlderThanApp(binding, appStartedAt);
  }

  /** An app that kept this many sessions over its restart keeps the others too. */
  #isKnown(key: SessionKey): boolean {
    return this.#known.has(key) || this.#known.size >= MAX_KEYS;
  }

  #noteKnown(key: SessionKey): void {
    this.#rejected.delete(key);
    if (this.#known.size < MAX_KEYS) this.#known.add(key);
  }

  /** Its binding ends, but its client may have more requests in flight. */
  #noteRejected(key: SessionKey): true {
    this.#rejected.add(key);
    for (const oldest of this.#rejected) {
      if (this.#rejected.size <= MAX_KEYS) break;
      this.#rejected.delete(oldest);
    }
    if (!this.#hasReported) this.#options.onFirstRejected();
    this.#hasReported = true;
    return true;
  }
}

/** A preflight or a HEAD often gets its response from a layer without sessions. */
function rejects({ method }: RequestHead, { statusCode }: ResponseHead): boolean {
  return REJECTIONS.has(statusCode) && method !== 'OPTIONS' && method !== 'HEAD';
}
