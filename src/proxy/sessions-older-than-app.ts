/**
 * Sessions older than the app process, which the sidecar knows in `run` mode. Such a session may have
 * ended with an earlier process, or been kept over the restart, and the app is asked:
 *
 *   older --2xx, 101--> known: the app has kept it
 *     |                      ^
 *     +--400, 404,…--> refused --2xx, 101
 *
 * An app says in its own way that it does not know an id; the server of MCP's examples answers 400,
 * with which no client starts anew.
 */
import type { Binding, MachineId, SessionKey } from '../session.ts';
import type { RequestHead, ResponseHead } from '../protocols/heads.ts';
import { accepts } from './app-responses.ts';
import type { Routed } from '../routing/route.ts';

export interface SessionsOlderThanAppOptions {
  readonly self: MachineId;
  /** ms since the epoch; undefined outside `run`: no session is known to be older. */
  readonly appStartedAt: number | undefined;
  /** The app has refused the first of them. */
  readonly onFirstRefused: () => void;
}

/**
 * Statuses by which apps refuse an id that they don't know: 400 (Engine.IO, servers of MCP), 404, 410,
 * and 422 of frameworks that validate. Every other one says something else: who the client is (401,
 * 403, 407, 419), what it may do or send (405, 406, 411 to 415, 417, 431), or when (408, 409, 425, 429).
 */
const REFUSALS: ReadonlySet<number> = new Set([400, 404, 410, 422]);

/** Remembered at most: 16 MB or so. */
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
  readonly #refused = new Set<SessionKey>();
  #hasReported = false;

  constructor(options: SessionsOlderThanAppOptions) {
    this.#options = options;
  }

  /**
   * Takes note of what the app says. True: it refuses a session that it has minted before it was
   * started and not accepted since, so its response is the protocol's "session not found". HOT PATH.
   */
  isRefused(request: RequestHead, routed: Routed, response: ResponseHead): boolean {
    const { key, binding, ids, decision } = routed;
    if (this.#options.appStartedAt === undefined || key === undefined) return false;
    if (ids.kind !== 'found' || decision.kind !== 'local') return false;
    if (!this.#isOlder(binding) && !this.#refused.has(key)) return false;
    if (accepts(request, response)) this.#noteKnown(key);
    else if (ids.protocol.mintedBy === 'app' && refuses(request, response)) {
      return !this.#isKnown(key) && this.#noteRefused(key);
    }
    return false;
  }

  /** Whether a claim of a client, made to the process before, says nothing of this one. */
  isVoid(binding: Binding): boolean {
    return binding.origin !== 'learned' && this.#isOlder(binding) && !this.#isKnown(binding.key);
  }

  #isOlder(binding: Binding | undefined): boolean {
    const { self, appStartedAt } = this.#options;
    return binding?.machine === self && isOlderThanApp(binding, appStartedAt);
  }

  /** An app that has kept so many sessions keeps the others too. */
  #isKnown(key: SessionKey): boolean {
    return this.#known.has(key) || this.#known.size >= MAX_KEYS;
  }

  #noteKnown(key: SessionKey): void {
    this.#refused.delete(key);
    if (this.#known.size < MAX_KEYS) this.#known.add(key);
  }

  /** Its binding ends, and its client may have more requests under way. */
  #noteRefused(key: SessionKey): true {
    this.#refused.add(key);
    for (const oldest of this.#refused) {
      if (this.#refused.size <= MAX_KEYS) break;
      this.#refused.delete(oldest);
    }
    if (!this.#hasReported) this.#options.onFirstRefused();
    this.#hasReported = true;
    return true;
  }
}

/** A preflight and a HEAD are often answered by what knows no sessions. */
function refuses({ method }: RequestHead, { statusCode }: ResponseHead): boolean {
  return REFUSALS.has(statusCode) && method !== 'OPTIONS' && method !== 'HEAD';
}
