/** Sends the bindings of this Machine's store to Machines that join: one page a request, at a low rate. */
import type { MachineId } from '../../session.ts';
import type { Cancel, Clock } from '../../clock.ts';
import { pagesOf } from '../../store/peer-pages.ts';
import type { Owners, SessionStore, PeerPage } from '../../store/store.ts';
import {
  formatBindingsPage,
  parseBindingsRequest,
  type BindingsRequest,
  type BindingsScope,
} from './reader.ts';
import type { Liveness } from '../liveness.ts';
import { handlerOf, type HandleMessage, type MessageResponse } from '../peer-service.ts';
import { createTokenBucket } from '../rate-limits.ts';

/** The limit for all readers together. */
const PAGES_PER_SECOND = 17;
const PAGE_BURST = 17;
/** A reading keeps the list of keys of the store in memory. */
const MAX_READINGS = 8;
/** A reading that is not continued is dropped after so many ms. */
const IDLE_MS = 30_000;

interface JoinServiceOptions {
  readonly self: MachineId;
  readonly store: SessionStore;
  readonly liveness: Pick<Liveness, 'others' | 'isConfirmedGone'>;
  readonly clock: Clock;
  /** From 0 to below 1. */
  readonly random: () => number;
}

interface JoinService {
  /** Returns 410 for an unknown cursor, and 503 if the reader should retry later. Never rejects. */
  readonly respond: HandleMessage;
  /** Drops all readings; no timer is left. */
  stop(): void;
}

/** One Machine's pass through the store. It begins with each request for a first page. */
interface Reading {
  readonly id: string;
  readonly of: BindingsScope;
  readonly pages: AsyncIterator<PeerPage>;
  pageCount: number;
  /** The last request's cursor and response, which the reader may request again. */
  lastResponse: { readonly after: string | undefined; readonly text: string } | undefined;
  isBusy: boolean;
  usedAtMs: number;
}

export function createJoinService(options: JoinServiceOptions): JoinService {
  return new PeerReadings(options);
}

/**
 * A reading passes through the store once, in the order of the store. So its position is kept here, and
 * a cursor is the number of a page:
 *
 * ```
 * first page requested -> reading --next page--> reading --30 s idle, store failed, first page again--> dropped
 *                            ^--the same page again, from memory--'
 * ```
 */
class PeerReadings implements JoinService {
  readonly #options: JoinServiceOptions;
  readonly #takeToken;
  readonly #readings = new Map<MachineId, Reading>();
  #cancelDropTimer: Cancel | undefined;

  constructor(options: JoinServiceOptions) {
    this.#options = options;
    const rate = { ratePerSecond: PAGES_PER_SECOND, burst: PAGE_BURST };
    this.#takeToken = createTokenBucket({ ...rate, clock: options.clock });
  }

  readonly respond = handlerOf(parseBindingsRequest, async (request): Promise<MessageResponse> => {
    const reading = this.#readings.get(request.from);
    if (reading?.isBusy === true || !this.#takeToken()) return 503;
    if (request.after === undefined) return this.#begin(request);
    if (reading?.of !== request.of) return 410;
    const { lastResponse } = reading;
    if (lastResponse?.after === request.after) return lastResponse.text;
    if (cursorOf(reading) !== request.after) return 410;
    return this.#nextPage(request, reading);
  });

  stop(): void {
    for (const machine of [...this.#readings.keys()]) this.#drop(machine);
  }

  async #begin(request: BindingsRequest): Promise<MessageResponse> {
    this.#drop(request.from);
    if (this.#readings.size >= MAX_READINGS) return 503;
    const { store, random, clock } = this.#options;
    try {
      const pages = pagesOf(store, this.#ownersFor(request))[Symbol.asyncIterator]();
      const reading: Reading = {
        id: Math.floor(random() * ID_RANGE).toString(36),
        of: request.of,
        pages,
        pageCount: 0,
        lastResponse: undefined,
        isBusy: false,
        usedAtMs: clock.monotonicMs(),
      };
      this.#readings.set(request.from, reading);
      return await this.#nextPage(request, reading);
    } catch {
      // The store supervisor reports the failure.
      return 503;
    }
  }

  async #nextPage({ from, after }: BindingsRequest, reading: Reading): Promise<MessageResponse> {
    const { self, clock } = this.#options;
    reading.isBusy = true;
    try {
      const result = await reading.pages.next();
      reading.pageCount += 1;
      const isLast = result.done === true;
      const next = isLast ? undefined : cursorOf(reading);
      const page = isLast ? EMPTY_PAGE : this.#withoutGone(result.value);
      const text = formatBindingsPage({ machine: self, page, next });
      reading.lastResponse = { after, text };
      return text;
    } catch {
      // As above. The reader starts again.
      this.#drop(from);
      return 503;
    } finally {
      reading.isBusy = false;
      reading.usedAtMs = clock.monotonicMs();
      this.#scheduleDrop();
    }
  }

  /** The reader queries running Machines itself. */
  #ownersFor({ from, of }: BindingsRequest): Owners {
    const { self, liveness } = this.#options;
    if (of === 'own') return { only: self };
    return { except: [self, from, ...liveness.others().map(({ machine }) => machine)] };
  }

  /** Leaves out owners that are gone: the reader skips rows of an owner that is not named. */
  #withoutGone({ rows, owners }: PeerPage): PeerPage {
    const { liveness } = this.#options;
    const named = [...owners].filter(([, machine]) => !liveness.isConfirmedGone(machine));
    return { rows, owners: new Map(named) };
  }

  #drop(machine: MachineId): void {
    const reading = this.#readings.get(machine);
    this.#readings.delete(machine);
    // A page in flight ends by itself.
    void reading?.pages.return?.().catch(() => undefined);
    if (this.#readings.size > 0) return;
    this.#cancelDropTimer?.();
    this.#cancelDropTimer = undefined;
  }

  /** One timer for all readings. */
  #scheduleDrop(): void {
    if (this.#readings.size === 0) return;
    this.#cancelDropTimer ??= this.#options.clock.after(IDLE_MS, () => {
      this.#cancelDropTimer = undefined;
      const idleSince = this.#options.clock.monotonicMs() - IDLE_MS;
      for (const [machine, { isBusy, usedAtMs }] of [...this.#readings]) {
        if (!isBusy && usedAtMs <= idleSince) this.#drop(machine);
      }
      this.#scheduleDrop();
    });
  }
}

const ID_RANGE = 2 ** 48;
const EMPTY_PAGE: PeerPage = { rows: '', owners: new Map() };

function cursorOf({ id, pageCount }: Reading): string {
  return `${id}-${pageCount}`;
}
