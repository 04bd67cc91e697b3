/** What the listeners and the connections to the app and to peers share: limits, memory, timeouts, reports. */
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { BufferBudget, ReadBuffers } from '../http/buffers.ts';
import { DEFAULT_LIMITS, FORWARD_BYTES, FORWARD_FIELDS, type Limits } from '../http/limits.ts';
import { Sweep } from '../http/sweep.ts';
import { UpstreamPool, type UpstreamPoolOptions } from '../http/upstream-pool.ts';
import { createRateLimitedReport, type Logger } from '../observability/log.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { Protocol } from '../protocols/protocol.ts';

interface HttpEngineParts {
  readonly config: Config;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** The options that the pools to the app and to peers share, and the listeners in part. */
type SharedOptions = Omit<UpstreamPoolOptions, 'address' | 'headTimeoutMs' | 'onDialled'>;

/** In ms. Connecting on loopback or over 6PN takes milliseconds; after this, nothing listens there. */
const CONNECT_TIMEOUT_MS = 5_000;
const FAULT_REPORT_MS = 60_000;
const CONNECTION_REPORT_MS = 10_000;

export class HttpEngine {
  readonly limits: Limits;
  readonly shared: SharedOptions;
  /** Names, in lower case, of fields that carry ids: a client's `Connection` may not name them. */
  readonly sessionHeaders: ReadonlySet<string>;
  /** Names, in lower case, of fields that reveal ids to clients. */
  readonly revealingHeaders: ReadonlySet<string>;
  readonly #parts: HttpEngineParts;

  constructor(parts: HttpEngineParts) {
    const { config, clock } = parts;
    this.#parts = parts;
    this.limits = limitsOf(config);
    this.sessionHeaders = sessionHeadersOf(config.protocols);
    this.revealingHeaders = new Set([
      ...this.sessionHeaders,
      ...['set-cookie', 'fly-replay', 'fly-replay-cache'],
    ]);
    const { headBytes, responseHeadBytes, fields, upstreamConnections } = this.limits;
    this.shared = {
      headBytes: responseHeadBytes,
      fields,
      maxConnections: upstreamConnections,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      trailers: { maxBytes: headBytes, maxFields: fields, forbidden: this.sessionHeaders },
      buffers: new ReadBuffers(),
      budget: new BufferBudget(this.limits.totalBufferBytes),
      sweep: new Sweep(clock),
      onFault: this.#faultReport(),
    };
  }

  /** Connections to the app. */
  poolToApp(revealingHeaders: Iterable<string>): UpstreamPool {
    const { config } = this.#parts;
    const address = addressOf(config.upstreamUrl);
    return new UpstreamPool({
      ...this.shared,
      address: () => address,
      selectedNames: revealingHeaders,
      headTimeoutMs: config.upstreamHeadTimeoutMs,
    });
  }

  /** No timeout for the response head: a peer's app may be slow, and the watchdog pings its sidecar. */
  get poolToPeer(): Omit<UpstreamPoolOptions, 'address' | 'onDialled'> {
    return {
      ...this.shared,
      headBytes: this.limits.responseHeadBytes + FORWARD_BYTES,
      fields: this.limits.fields + FORWARD_FIELDS,
      headTimeoutMs: 0,
    };
  }

  /** For a connection that is rejected because there are too many. */
  connectionReport(): () => void {
    const { clock, logger, metrics } = this.#parts;
    const fields = { limit: this.limits.connections };
    const report = createRateLimitedReport(clock, CONNECTION_REPORT_MS, () =>
      logger.warn(fields, 'rejected a connection: MAX_CONNECTIONS are open'),
    );
    return () => {
      metrics.connectionRefused();
      report(undefined);
    };
  }

  #faultReport(): (error: unknown) => void {
    const { clock, logger, metrics } = this.#parts;
    const report = createRateLimitedReport(clock, FAULT_REPORT_MS, (error, unreported) =>
      logger.error({ err: error, unreported }, 'a connection was ended by an unexpected error'),
    );
    return (error) => {
      metrics.connectionFault();
      report(error);
    };
  }
}

function limitsOf(config: Config): Limits {
  return {
    ...DEFAULT_LIMITS,
    headBytes: config.maxHeadBytes,
    responseHeadBytes: Math.max(DEFAULT_LIMITS.responseHeadBytes, config.maxHeadBytes),
    targetBytes: Math.max(DEFAULT_LIMITS.targetBytes, config.maxHeadBytes / 2),
    connections: config.maxConnections,
    upstreamConnections: config.maxConnections,
    totalBufferBytes: config.maxBufferedBytes,
    stallTimeoutMs: config.stallTimeoutMs,
  };
}

/** The fields that carry ids, in requests or in responses. */
function sessionHeadersOf(protocols: readonly Protocol[]): ReadonlySet<string> {
  const names = protocols.flatMap(({ idLocations, discoveries }) => [
    ...idLocations.flatMap((location) => (location.in === 'header' ? [location.name] : [])),
    ...discoveries.flatMap((discovery) => (discovery.from === 'header' ? [discovery.name] : [])),
  ]);
  return new Set(['mcp-session-id', 'x-session-id', ...names]);
}

/** An IPv6 address has brackets only in a URL. */
function addressOf({ hostname, port }: URL): { host: string; port: number } {
  const host = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
  return { host, port: port === '' ? 80 : Number(port) };
}
