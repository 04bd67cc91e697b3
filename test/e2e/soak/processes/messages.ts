/** What the apps, the sidecars' probes and the script tell each other. */

export type AppMessage =
  | { readonly kind: 'listening' }
  /** The answer to any message: what is open just now. */
  | { readonly kind: 'open'; readonly requests: number; readonly webSockets: number }
  /** So much could be written for a client that never read on. */
  | { readonly kind: 'stalled'; readonly bytes: number }
  /** A malformed request, or what came behind one, has reached the app. */
  | { readonly kind: 'malformed'; readonly id: string };

/** Asks the app to close its WebSocket. */
export const CLOSE_PLEASE = 'close, please';
export const ASKED_CLOSE_CODE = 4001;

/** What a sidecar's probe answers to any message, after garbage collection. */
export interface MemoryReading {
  readonly heapUsedBytes: number;
  /** Outside the heap, buffers included. */
  readonly externalBytes: number;
  readonly rssBytes: number;
  /** What keeps the event loop alive, by kind: timers, sockets, ... */
  readonly resources: Readonly<Record<string, number>>;
}
