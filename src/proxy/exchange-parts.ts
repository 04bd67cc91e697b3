/** What an exchange is given, and whom it tells what: the types between it and its neighbours. */
import type { Duplex } from 'node:stream';
import type { Decision } from '../affinity/decide.ts';
import type { RequestHead } from '../affinity/extract.ts';
import type { RemoveHints } from '../affinity/hint.ts';
import type { Learner } from '../affinity/learn.ts';
import type { MachineId, SessionKey } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';
import type { Peer } from '../fleet/directory.ts';
import type { Answers } from './answers.ts';
import type { Bindings } from './bindings.ts';
import type { HeadFlusher } from './head-flusher.ts';
import type { Handler, Routed } from './handler.ts';
import type { HeadFields } from './headers.ts';
import type { Upstream } from './upstream.ts';

/** What every exchange shares. */
export interface ExchangeParts {
  readonly handler: Handler;
  readonly answers: Answers;
  readonly bindings: Bindings;
  readonly learner: Pick<Learner, 'mayTeachByBody'>;
  readonly removeHints: RemoveHints;
  readonly upstream: Upstream;
  readonly flusher: HeadFlusher;
  /** The app has refused a connection. */
  readonly onRefused: () => void;
  /** From then on answers ask for their connections to be closed: soon nobody will be here. */
  readonly isEnding: () => boolean;
  /** `host:port` of the app. */
  readonly upstreamHost: string;
  /** Names, in lower case, of headers that carry ids. */
  readonly teachingHeaders: ReadonlySet<string>;
  /** A peer has said that a session is not its own, as we had thought. */
  readonly onMoved: (key: SessionKey, machine: MachineId) => void;
  /** A forward for this decision was answered by its Machine. */
  readonly onForwarded: (decision: Decision) => void;
  readonly peers: { to(peer: Peer): Upstream };
  readonly clock: Clock;
  readonly observer: ExchangeObserver;
}

/** Told what happened, for logs and metrics. */
export interface ExchangeObserver {
  onStreamOpened(kind: StreamKind): void;
  onStreamClosed(kind: StreamKind): void;
  onFinished(exchange: FinishedExchange): void;
  /** The upstream or a peer failed; `code` is the library's. */
  onUpstreamFailure(error: Error, exchange: FinishedExchange): void;
}

export type StreamKind = 'http' | 'websocket';

export interface FinishedExchange {
  readonly requestId: string | undefined;
  readonly method: string;
  /** With its query: the log takes what it may show. */
  readonly target: string;
  readonly routed: Routed | undefined;
  /** 499: the client left first. */
  readonly statusCode: number;
  readonly totalMs: number;
  /** What the sidecar added, in ms. */
  readonly sidecarMs: number;
  /** From the request's leaving to the answer's head, in ms. */
  readonly upstreamMs: number | undefined;
}

/** What arrived, and how. */
export interface ReceivedRequest {
  readonly from: 'edge' | 'peer';
  readonly head: RequestHead;
  readonly fields: HeadFields;
  /** The client sends its body once it is told to (`Expect: 100-continue`). */
  readonly awaitsContinue: boolean;
  /** Set if the client asks for another protocol on this connection. */
  readonly tunnel: Tunnel | undefined;
}

/** Joins a client's connection with its upstream's, once the app has agreed to an upgrade. */
export interface Tunnel {
  /** What the client asks for, less what is no tunnel: the value of `Upgrade` for the app. */
  readonly protocols: string;
  /** Sends the head and then passes bytes both ways; `onClose` is called once, when both are gone. */
  open(answer: TunnelHead, upstream: Duplex, onClose: () => void): void;
}

export interface TunnelHead {
  readonly statusCode: number;
  /** The protocol that the app has chosen. */
  readonly upgrade: string;
  readonly rawHeaders: readonly string[];
}
