/**
 * Which protocols the requests of this Machine show: the first request of each is a line of the log, each is
 * counted, and a warning names the preset of one that `SESSION_PROTOCOLS` does not list.
 */
import type { Logger } from '../observability/log.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { RequestHead } from '../protocols/heads.ts';
import { createCookieCheck, readCookieValues } from '../protocols/id-locations.ts';
import { AUTO, presetOf, PRESETS } from '../protocols/presets.ts';
import type { Protocol } from '../protocols/protocol.ts';
import { createRequestIdReader, type ReadRequestIds } from '../protocols/request-ids.ts';

interface SeenProtocolsParts {
  /** Those of `SESSION_PROTOCOLS`. */
  readonly protocols: readonly Protocol[];
  readonly logger: Pick<Logger, 'info' | 'warn'>;
  readonly metrics: Pick<Metrics, 'sessionRequest'>;
}

interface NamedCookie {
  readonly name: string;
  readonly protocol: Protocol;
}

/** Their shapes are those of many other apps too. */
const TOO_COMMON: ReadonlySet<string> = new Set(['mcp-sse', 'rpc']);

export class SeenProtocols {
  readonly #parts: SeenProtocolsParts;
  readonly #listed: ReadonlySet<string>;
  readonly #cookies: readonly NamedCookie[];
  readonly #mayHaveCookie: ReturnType<typeof createCookieCheck>;
  readonly #warned = new Set<string>();
  readonly #counts = new Map<string, number>();
  /** Reads the ids of what is not listed and was not warned of yet. */
  #readUnlisted: ReadRequestIds | undefined;

  constructor(parts: SeenProtocolsParts) {
    this.#parts = parts;
    this.#listed = new Set(parts.protocols.map(({ name }) => name));
    this.#cookies = AUTO.flatMap((protocol) =>
      (protocol.recognizedCookies ?? []).map((name) => ({ name, protocol })),
    );
    this.#mayHaveCookie = createCookieCheck(this.#cookies.map(({ name }) => name));
    this.#readUnlisted = this.#createUnlistedReader();
  }

  /** A request with a session id, served here. HOT PATH. */
  noteServed({ name }: Protocol): void {
    this.#parts.metrics.sessionRequest(name);
    const count = this.#counts.get(name);
    this.#counts.set(name, (count ?? 0) + 1);
    if (count !== undefined) return;
    const preset = presetOf(name);
    const products = preset === undefined ? undefined : PRESETS[preset]?.products;
    this.#parts.logger.info({ protocol: name, products }, 'first request of a protocol');
  }

  /** A request without a session id, which the app has accepted. HOT PATH. */
  noteWithoutId(head: RequestHead): void {
    const cookie = this.#cookieIn(head);
    if (cookie && this.#listed.has(cookie.protocol.name)) this.noteServed(cookie.protocol);
    else if (cookie) this.#warnOf(cookie.protocol);
    if (!this.#readUnlisted) return;
    const ids = this.#readUnlisted(head);
    if (ids.kind === 'found') this.#warnOf(ids.protocol);
  }

  /** Requests by protocol. */
  counts(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counts);
  }

  /** Presets that requests look like, and that `SESSION_PROTOCOLS` lacks: a warning has named each. */
  missingPresets(): readonly string[] {
    return [...this.#warned];
  }

  #cookieIn({ rawHeaders }: RequestHead): NamedCookie | undefined {
    if (!this.#mayHaveCookie(rawHeaders)) return undefined;
    return this.#cookies.find(({ name }) => readCookieValues(rawHeaders, name).length > 0);
  }

  /** Once for each preset. */
  #warnOf({ name }: Protocol): void {
    const preset = presetOf(name) ?? name;
    if (this.#warned.has(preset)) return;
    this.#warned.add(preset);
    this.#readUnlisted = this.#createUnlistedReader();
    const products = PRESETS[preset]?.products ?? name;
    this.#parts.logger.warn(
      { protocol: name },
      `looks like ${products}; add ${preset} to SESSION_PROTOCOLS`,
    );
  }

  #createUnlistedReader(): ReadRequestIds | undefined {
    const unlisted = AUTO.filter(({ name }) => {
      const wasWarned = this.#warned.has(presetOf(name) ?? name);
      return !this.#listed.has(name) && !TOO_COMMON.has(name) && !wasWarned;
    });
    return unlisted.length === 0 ? undefined : createRequestIdReader(unlisted, { hints: false });
  }
}
