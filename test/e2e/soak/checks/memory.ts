/** Whether memory and descriptors have returned to their initial values. */
import { atMost, isSame, type Check } from './check.ts';
import { SOCKET_KINDS, type Descriptors } from './descriptors.ts';
import type { Reading } from './reading.ts';

/** The readings of one sidecar. */
export interface Readings {
  readonly name: string;
  /** Before any load. */
  readonly start: Reading;
  /** After the warm-up, when the sidecar is idle again. */
  readonly baseline: Reading;
  /** After the load, when the sidecar is idle again. */
  readonly end: Reading;
}

export const MEGABYTE = 1_000_000;

/** Compiled code and V8's feedback grow for a while, whatever the load. */
const HEAP_GROWTH_MB = 4;
/** Buffer pools grow and shrink on demand. */
const EXTERNAL_GROWTH_MB = 4;
/** The memory of the Machine in `fly.toml`. */
const MAX_RSS_MB = 512;
/** Connections between the sidecars. */
const MAX_PEER_SOCKETS = 128;
/** Timers and sockets of pooled resources: a few may open or close. */
const RESOURCE_GROWTH = 10;
/**
 * Data that may be buffered for a client that does not read: on three hops, with at most the 36 MB
 * that Linux gives a connection on loopback, and the buffers of the sidecars. Without backpressure
 * it would be gigabytes.
 */
export const MAX_STALLED_MB = 128;

export function checkReadings({ name, start, baseline, end }: Readings): readonly Check[] {
  const peakMb = (end.peakRssBytes ?? 0) / MEGABYTE;
  return [
    atMost(
      `${name}: heap used, after garbage collection`,
      end.heapUsedBytes / MEGABYTE,
      baseline.heapUsedBytes / MEGABYTE + HEAP_GROWTH_MB,
      'MB',
    ),
    atMost(
      `${name}: memory outside the heap`,
      end.externalBytes / MEGABYTE,
      baseline.externalBytes / MEGABYTE + EXTERNAL_GROWTH_MB,
      'MB',
    ),
    atMost(`${name}: most resident memory`, peakMb, MAX_RSS_MB, 'MB'),
    atMost(
      `${name}: timers and handles`,
      sumOf(end.resources),
      sumOf(baseline.resources) + RESOURCE_GROWTH,
    ),
    ...checkDescriptors(name, start.descriptors, end.descriptors),
  ];
}

function sumOf(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

/** Pooled connections to the app are closed by now; those between the sidecars may stay. */
function checkDescriptors(
  name: string,
  start: Descriptors | undefined,
  end: Descriptors | undefined,
): readonly Check[] {
  if (!start || !end) return [];
  return [
    isSame(
      `${name}: descriptors, without connections`,
      descriptorsText(end, isLasting),
      descriptorsText(start, isLasting),
    ),
    atMost(`${name}: connections of clients`, end.get('client') ?? 0, 0),
    atMost(`${name}: connections to the app`, end.get('app') ?? 0, 0),
    atMost(`${name}: connections to and from peers`, end.get('peer') ?? 0, MAX_PEER_SOCKETS),
    atMost(`${name}: other connections`, end.get('other TCP') ?? 0, 0),
  ];
}

/** By kind, the same text for the same counts. */
export function descriptorsText(
  descriptors: Descriptors,
  isWanted: (kind: string) => boolean = () => true,
): string {
  return [...descriptors]
    .filter(([kind]) => isWanted(kind))
    .toSorted(([one], [other]) => one.localeCompare(other))
    .map(([kind, count]) => `${count} ${kind}`)
    .join(', ');
}

function isLasting(kind: string): boolean {
  return kind === 'listening' || !(SOCKET_KINDS as readonly string[]).includes(kind);
}
