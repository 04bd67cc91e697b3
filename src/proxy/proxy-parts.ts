/** What every request shares. */
import type { Clock } from '../clock.ts';
import type { ReplayFailureReason } from '../fly.ts';
import type { RequestHead } from '../protocols/heads.ts';
import type { ActionFor } from '../routing/respond.ts';
import type { Router } from '../routing/route.ts';
import type { AppAttemptParts } from './app-attempt.ts';
import type { HeldBodies } from './held-bodies.ts';
import type { PeerAttemptParts } from './peer-attempt.ts';
import type { ReceivedRequestParts } from './received-request.ts';
import type { TraceFor } from './request-log.ts';
import type { RequestRecorder } from './request-record.ts';
import type { StartGate } from './start-gate.ts';

export interface ProxyParts extends AppAttemptParts, PeerAttemptParts, ReceivedRequestParts {
  readonly bindings: AppAttemptParts['bindings'];
  readonly router: Pick<
    Router,
    'route' | 'decideEarly' | 'elsewhere' | 'toWinner' | 'withoutPlace'
  >;
  readonly actionFor: ActionFor;
  /** Whether the session id of a request may be in its body. */
  readonly mayHaveIdInBody: (head: RequestHead) => boolean;
  readonly heldBodies: Pick<HeldBodies, 'begin'>;
  /** For requests that come before the app listens. */
  readonly startGate: Pick<StartGate, 'isOpen' | 'hold' | 'release'>;
  /** Set where each step of routing is logged. */
  readonly traceFor: TraceFor | undefined;
  readonly recorder: Pick<RequestRecorder, 'begin'>;
  /** The edge returned a request as undelivered, or a client pretends that it did. */
  readonly onReplayFailed: (reason: ReplayFailureReason | 'other') => void;
  /** The app has refused a connection. */
  readonly onRefused: () => void;
  readonly clock: Clock;
  readonly onFault: (error: unknown) => void;
}
