/** Tells Machines that join what is bound: one page a request, at a rate that costs little. */
import type { MachineId } from '../../session.ts';
import type { Cancel, Clock } from '../../clock.ts';
import { pagesOf } from '../../store/peer-pages.ts';
import type { Owners, SessionStore, PeerPage } from '../../store/store.ts';
import {
  formatBindingsPage,
  parseBindingsRequest,
  type BindingsRequest,
  type BindingsScope,
} from './messages.ts';
import type { Liveness } from '../liveness.ts';
import type { HandleMessage, IsFrom, MessageResponse } from '../peer-service.ts';
import { createTokenBucket } from '../rate-limits.ts';

/** For all readers together: however many Machines join at once, this is what they cost. */
const PAGES_PER_SECOND = 17;
const PAGE_BURST = 17;
/** A reading keeps the list of keys of a store in memory. */
const MAX_READINGS = 8;
/** A reading that nobody goes on with is forgotten after so many ms. */
const IDLE_MS = 30_000;

export interface JoinServiceOptions {
  readonly self: MachineId;
  readonly store: SessionStore;
  readonly liveness: Pick<Liveness, 'others' | 'isConfirmedGone'>;
  readonly clock: Clock;
  /** From 0 to below 1. */
  readonly random: () => number;
}

export interface JoinService {
  /** Responds 410 to an unknown cursor, 503 where the reader is to try again later. Never rejects. */
  readonly respond: HandleMessage;
  /** Forgets all readings; no timer is left. */
  stop(): void;
}

/** One Machine's way through the store: that of its latest first page. */
interface Reading {
  readonly id: string;
  readonly of: BindingsScope;
  readonly pages: AsyncIterator<PeerPage>;
  pageCount: number;
  /** The cursor that was answered last, and the answer: it may be asked for again. */
  answered: { readonly after: string | undefined; readonly text: string } | undefined;
  isBusy: boolean;
  usedAtMs: number;
}

export function createJoinService(options: JoinServiceOptions): JoinService {
  return new ReadingsOfPeers(options);
}

/**
 * A reading goes through the store once, and the store decides in which order. So the place where it
 * stands is kept here, and a cursor is the number of a page:
 *
 * ```
 * first page asked for -> reading --next page--> reading --last page, 30 s idle, store failed--> forgotten
 *                            ^--the same page again, as it was--'
 * ```
 */
class ReadingsOfPeers implements JoinService {
  readonly #options: JoinServiceOptions;
  readonly #takeToken;
  readonly #readings = new Map<MachineId, Reading>();
  #cancelForgetting: Cancel | undefined;

  constructor(options: JoinServiceOptions) {
    this.#options = options;
    const rate = { ratePerSecond: PAGES_PER_SECOND, burst: PAGE_BURST };
    this.#takeToken = createTokenBucket({ ...rate, clock: options.clock });
  }

  readonly respond = async (text: string, isFrom: IsFrom): Promise<MessageResponse> => {
    const request = parseBindingsRequest(text);
    if (!request) return 400;
    if (!isFrom(request.from)) return 403;
    const reading = this.#readings.get(request.from);
    if (reading?.isBusy === true || !this.#takeToken()) return 503;
    if (request.after === undefined) return this.#begin(request);
    if (reading?.of !== request.of) return 410;
    const { answered } = reading;
    if (answered?.after === request.after) return answered.text;
    if (cursorOf(reading) !== request.after) return 410;
    return this.#goOn(request, reading);
  };

  stop(): void {
    for (const machine of [...this.#readings.keys()]) this.#forget(machine);
  }

  async #begin(request: BindingsRequest): Promise<MessageResponse> {
    this.#forget(request.from);
    if (this.#readings.size >= MAX_READINGS) return 503;
    const { store, random, clock } = this.#options;
    try {
      const pages = pagesOf(store, this.#ownersFor(request))[Symbol.asyncIterator]();
      const reading: Reading = {
        id: Math.floor(random() * ID_RANGE).toString(36),
        of: request.of,
        pages,
        pageCount: 0,
        answered: undefined,
        isBusy: false,
        usedAtMs: clock.monotonicMs(),
      };
      this.#readings.set(request.from, reading);
      return await this.#goOn(request, reading);
    } catch {
      // The store is not in order, which is reported where it is watched.
      return 503;
    }
  }

  async #goOn({ from, after }: BindingsRequest, reading: Reading): Promise<MessageResponse> {
    const { self, clock } = this.#options;
    reading.isBusy = true;
    try {
      const page = await reading.pages.next();
      reading.pageCount += 1;
      const isOver = page.done === true;
      const next = isOver ? undefined : cursorOf(reading);
      const told = isOver ? NOTHING : this.#withoutGone(page.value);
      const text = formatBindingsPage({ machine: self, told, next });
      reading.answered = { after, text };
      return text;
    } catch {
      // As above. The reader begins anew.
      this.#forget(from);
      return 503;
    } finally {
      reading.isBusy = false;
      reading.usedAtMs = clock.monotonicMs();
      this.#forgetLater();
    }
  }

  /** What runs is asked by the reader itself. */
  #ownersFor({ from, of }: BindingsRequest): Owners {
    const { self, liveness } = this.#options;
    if (of === 'own') return { only: self };
    return { except: [self, from, ...liveness.others().map(({ machine }) => machine)] };
  }

  /** Drops the owners that are gone: the reader skips rows of an owner that is not named. */
  #withoutGone({ rows, owners }: PeerPage): PeerPage {
    const { liveness } = this.#options;
    const there = [...owners].filter(([, machine]) => !liveness.isConfirmedGone(machine));
    return { rows, owners: new Map(there) };
  }

  #forget(machine: MachineId): void {
    const reading = this.#readings.get(machine);
    this.#readings.delete(machine);
    // One under way ends by itself.
    void reading?.pages.return?.().catch(() => undefined);
    if (this.#readings.size > 0) return;
    this.#cancelForgetting?.();
    this.#cancelForgetting = undefined;
  }

  /** One timer for all readings. */
  #forgetLater(): void {
    if (this.#readings.size === 0) return;
    this.#cancelForgetting ??= this.#options.clock.after(IDLE_MS, () => {
      this.#cancelForgetting = undefined;
      const idleSince = this.#options.clock.monotonicMs() - IDLE_MS;
      for (const [machine, { isBusy, usedAtMs }] of [...this.#readings]) {
        if (!isBusy && usedAtMs <= idleSince) this.#forget(machine);
      }
      this.#forgetLater();
    });
  }
}

const ID_RANGE = 2 ** 48;
const NOTHING: PeerPage = { rows: '', owners: new Map() };

function cursorOf({ id, pageCount }: Reading): string {
  return `${id}-${pageCount}`;
}
