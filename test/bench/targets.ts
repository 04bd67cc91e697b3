/**
 * The regression bounds of the sidecar: ratios to the other candidates of the same run, and absolute
 * figures. A missed bound is printed and fails nothing.
 */
import type { Target, TargetsByCandidate } from './result.ts';

/** Ratios of requests, or bytes, per second. */
const THROUGHPUT = {
  get: { nginx: { atLeast: 0.7 }, floor: { atLeast: 0.9 }, 'http-proxy': { atLeast: 4.5 } },
  post: { nginx: { atLeast: 0.75 }, floor: { atLeast: 1.05 }, 'http-proxy': { atLeast: 5 } },
  replay: { floor: { atLeast: 1.3 } },
  large: { nginx: { atLeast: 1 }, floor: undefined, 'http-proxy': { atLeast: 1.2 } },
  upload: { nginx: undefined, floor: undefined, 'http-proxy': { atLeast: 1 } },
} satisfies Record<string, TargetsByCandidate>;

/** Ratios of CPU time per message. */
const CPU_TIME = {
  websocket: { nginx: { atMost: 1.4 }, 'http-proxy': { atMost: 0.9 } },
} satisfies Record<string, TargetsByCandidate>;

const ABSOLUTE = {
  /** CPU time of a request with discovery over the same without it. */
  discovery: { atMost: 1.03 },
  /** Latency of a GET at p99 over its median, with a request in flight on every connection. */
  p99OverMedian: { atMost: 3 },
  /** Median latency of a GET, minus nginx's. */
  microsMoreThanNginx: { atMost: 10 },
  addedLatencyOverHttpProxy: { atMost: 0.6 },
  kilobytesPerStream: { atMost: 12 },
  kilobytesPerConnection: { atMost: 10 },
  megabytesAlone: { atMost: 70 },
  megabytesInFleet: { atMost: 90 },
} satisfies Record<string, Target>;

export const TARGETS = { ...THROUGHPUT, ...CPU_TIME, ...ABSOLUTE };
