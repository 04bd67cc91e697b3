/** Reads the bindings of one peer to the end, page by page, and stores each page. */
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

/** From the start of a page to the start of the next, in ms: a million bindings in about a minute. */
const PAGE_MS = 60;
const PAGE_TIMEOUT_MS = 10_000;
/** Reading a peer ends after this many failures in total. */
const MAX_TRIES = 3;
const RETRY_MS = 2_000;
const BUSY_MS = 250;
const MAX_BUSY = 1_200;
/** More than ten million bindings: the peer sends the same pages again and again. */
const MAX_PAGES = 10_000;

/**
 * - `read`: to the end.
 * - `full`: until no more fits.
 * - `unsupported`: the version of the peer has no such messages.
 * - `stopped`: this Machine stops.
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
  /** Rejects if the store can't write now. */
  readonly importPage: (page: BindingsPage) => Promise<'imported' | 'full'>;
}

/** Never rejects. Requests a page again from the same cursor until it is imported. */
export async function readBindings(options: BindingsReaderOptions): Promise<ReadOutcome> {
  const { clock, signal, importPage } = options;
  let after: string | undefined;
  let tries = 0;
  let busy = 0;
  for (let pages = 0; pages < MAX_PAGES && !signal.aborted;) {
    const startedAtMs = clock.monotonicMs();
    try {
      const page = await fetchPage(options, after);
      if ((await importPage(page)) === 'full') return { kind: 'full' };
      if (page.next === undefined) return { kind: 'read' };
      after = page.next;
      pages += 1;
      busy = 0;
      await clock.sleep(Math.max(startedAtMs + PAGE_MS - clock.monotonicMs(), 0), signal);
    } catch (error) {
      const status = error instanceof PeerStatusError ? error.status : undefined;
      if (status === 404) return { kind: 'unsupported' };
      const isBusy = isTemporary(error) && (busy += 1) <= MAX_BUSY;
      if (!isBusy && (tries += 1) >= MAX_TRIES) return failed(error, signal);
      // The peer has dropped the reading. What is stored already is not stored twice.
      if (status === 410) after = undefined;
      await clock.sleep(isBusy ? BUSY_MS : RETRY_MS, signal);
    }
  }
  return failed(new Error('the peer sends more pages than it can have bindings'), signal);
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

/** The peer is busy or does not list this Machine yet, or our store can't write now. */
function isTemporary(error: unknown): boolean {
  if (error instanceof PeerStatusError) return error.status === 503 || error.status === 403;
  return error instanceof StoreError && error.code === 'passing';
}

function failed(error: unknown, signal: AbortSignal): ReadOutcome {
  if (signal.aborted) return { kind: 'stopped' };
  return { kind: 'failed', reason: error instanceof Error ? error.message : String(error) };
}
