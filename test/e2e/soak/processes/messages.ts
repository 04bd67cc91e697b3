/** The messages between the apps, the sidecars' probes and the script. */

export type AppMessage =
  | { readonly kind: 'listening' }
  /** The response to any message: what is open at the moment. */
  | { readonly kind: 'open'; readonly requests: number; readonly webSockets: number }
  /** How much could be written for a client that stopped reading. */
  | { readonly kind: 'stalled'; readonly bytes: number }
  /** A malformed request, or data behind one, has reached the app. */
  | { readonly kind: 'malformed'; readonly id: string };

/** Requests the app to close its WebSocket. */
export const CLOSE_PLEASE = 'close, please';
export const REQUESTED_CLOSE_CODE = 4001;

/** The response of a sidecar's probe to any message, after garbage collection. */
export interface MemoryReading {
  readonly heapUsedBytes: number;
  /** Outside the heap, buffers included. */
  readonly externalBytes: number;
  readonly rssBytes: number;
  /** What keeps the event loop alive, by kind: timers, sockets, ... */
  readonly resources: Readonly<Record<string, number>>;
}
