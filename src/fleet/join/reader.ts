/** Reads one peer's bindings to the end, page by page, and has each page entered. */
import type { MachineId } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { StoreError } from '../../store/store.ts';
import {
  BINDINGS_PATH,
  formatBindingsRequest,
  parseBindingsPage,
  type BindingsPage,
  type BindingsScope,
} from './messages.ts';
import { PeerStatusError, type PeerClient } from '../peer-client.ts';

/** From the begin of a page to the begin of the next, in ms: a million bindings in about a minute. */
const PAGE_MS = 60;
const PAGE_TIMEOUT_MS = 10_000;
/** Failures in all that one peer is forgiven before it is given up. */
const MAX_TRIES = 3;
const RETRY_MS = 2_000;
const BUSY_MS = 250;
const MAX_BUSY = 1_200;
/** More than ten million bindings: then a peer goes round in circles. */
const MAX_PAGES = 10_000;

/**
 * - `read`: to the end.
 * - `full`: no more fits.
 * - `unsupported`: the peer is of a version that has nothing to tell.
 * - `stopped`: by us.
 */
export type ReadOutcome =
  | { readonly kind: 'read' | 'full' | 'unsupported' | 'stopped' }
  | { readonly kind: 'failed'; readonly reason: string };

export interface BindingsReaderOptions {
  readonly self: MachineId;
  readonly peer: MachineId;
  readonly of: BindingsScope;
  readonly client: Pick<PeerClient, 'post'>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Rejects where the store can't take them now. */
  readonly enter: (page: BindingsPage) => Promise<'entered' | 'full'>;
}

/** Never rejects. A page is asked for again from the same cursor until it has been entered. */
export async function readBindings(options: BindingsReaderOptions): Promise<ReadOutcome> {
  const { clock, signal, enter } = options;
  let after: string | undefined;
  let tries = 0;
  let busy = 0;
  for (let pages = 0; pages < MAX_PAGES && !signal.aborted;) {
    const startedAtMs = clock.monotonicMs();
    try {
      const page = await fetchPage(options, after);
      if ((await enter(page)) === 'full') return { kind: 'full' };
      if (page.next === undefined) return { kind: 'read' };
      after = page.next;
      pages += 1;
      busy = 0;
      await clock.sleep(Math.max(startedAtMs + PAGE_MS - clock.monotonicMs(), 0), signal);
    } catch (error) {
      const status = error instanceof PeerStatusError ? error.status : undefined;
      if (status === 404) return { kind: 'unsupported' };
      const isBusy = isPassing(error) && (busy += 1) <= MAX_BUSY;
      if (!isBusy && (tries += 1) >= MAX_TRIES) return failed(error, signal);
      // The peer has forgotten where we were: what is here already is not entered twice.
      if (status === 410) after = undefined;
      await clock.sleep(isBusy ? BUSY_MS : RETRY_MS, signal);
    }
  }
  return failed(new Error('it has more pages than bindings'), signal);
}

async function fetchPage(
  { self, peer, of, client, signal }: BindingsReaderOptions,
  after: string | undefined,
): Promise<BindingsPage> {
  const body = formatBindingsRequest({ from: self, of, after });
  const text = await client.post(BINDINGS_PATH, body, { timeoutMs: PAGE_TIMEOUT_MS, signal });
  const page = parseBindingsPage(text);
  if (page?.machine !== peer) throw new Error('another Machine has responded');
  return page;
}

/** A peer that has no time or does not list this Machine yet; a store of ours that is not in order. */
function isPassing(error: unknown): boolean {
  if (error instanceof PeerStatusError) return error.status === 503 || error.status === 403;
  return error instanceof StoreError && error.code === 'passing';
}

function failed(error: unknown, signal: AbortSignal): ReadOutcome {
  if (signal.aborted) return { kind: 'stopped' };
  return { kind: 'failed', reason: error instanceof Error ? error.message : String(error) };
}
