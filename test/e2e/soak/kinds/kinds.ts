/** The kinds of client behavior, and their frequencies. */
import type { Step } from '../step.ts';
import { abort } from './abort.ts';
import { download, get, readSlowly } from './download.ts';
import { followEvents } from './events.ts';
import { halfClose } from './half-close.ts';
import { idle, stall } from './linger.ts';
import { malformed } from './malformed.ts';
import { pipeline, pipelinedUpgrade } from './pipeline.ts';
import { bodiless, head, http10 } from './plain.ts';
import { useSession } from './session.ts';
import { expectContinue, post, rejectedEarly, upload } from './upload.ts';
import { useWebSocket } from './web-socket.ts';

export interface Kind {
  /** Rejects with a `Failure` for an invalid result, with `Left` when the client disconnects. */
  readonly run: (step: Step) => Promise<void>;
  /** `brief`: ends with its response; `long`: stays for seconds. */
  readonly stay: 'brief' | 'long';
  /** Its frequency, relative to the others of the same duration. */
  readonly weight: number;
}

export const KINDS = {
  get: { run: get, stay: 'brief', weight: 30 },
  pipeline: { run: pipeline, stay: 'brief', weight: 8 },
  'pipelined-upgrade': { run: pipelinedUpgrade, stay: 'brief', weight: 1 },
  post: { run: post, stay: 'brief', weight: 14 },
  upload: { run: upload, stay: 'brief', weight: 6 },
  continue: { run: expectContinue, stay: 'brief', weight: 5 },
  'early-refusal': { run: rejectedEarly, stay: 'brief', weight: 3 },
  download: { run: download, stay: 'brief', weight: 6 },
  'http-1.0': { run: http10, stay: 'brief', weight: 5 },
  head: { run: head, stay: 'brief', weight: 4 },
  bodiless: { run: bodiless, stay: 'brief', weight: 4 },
  session: { run: useSession, stay: 'brief', weight: 10 },
  abort: { run: abort, stay: 'brief', weight: 12 },
  'half-close': { run: halfClose, stay: 'brief', weight: 6 },
  malformed: { run: malformed, stay: 'brief', weight: 6 },
  'slow-reader': { run: readSlowly, stay: 'long', weight: 3 },
  events: { run: followEvents, stay: 'long', weight: 4 },
  websocket: { run: useWebSocket, stay: 'long', weight: 5 },
  idle: { run: idle, stay: 'long', weight: 2 },
  'stalled-reader': { run: stall, stay: 'long', weight: 2 },
} as const satisfies Readonly<Record<string, Kind>>;

export type KindName = keyof typeof KINDS;
export const KIND_NAMES = Object.keys(KINDS) as readonly KindName[];
