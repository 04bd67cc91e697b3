/** What the main thread asks of the thread that writes, and what it answers: one answer a request, in order. */
import type { Binding, SessionKey } from '../../session.ts';
import type { Outcome, Write } from '../rules.ts';
import type { Inode, OpenedFiles } from './file.ts';
import type { PeerPageQuery, PeerPageRows } from './rows.ts';
import type { StoreErrorCode, StoreLimits, PeerCopy } from '../store.ts';

/** What the thread is started with. */
export interface WriterSettings {
  readonly path: string;
  /** Which file that was when it was opened first; undefined for the first time. */
  readonly database: Inode | undefined;
  readonly limits: StoreLimits;
}

/** What the thread says first: the answer to its start, which is none of the requests'. */
export type WriterStart = { readonly kind: 'opened'; readonly files: OpenedFiles } | Refusal;

export type WriterRequest =
  /** One transaction; no two writes of one key. */
  | { readonly kind: 'write'; readonly writes: readonly Write[] }
  | { readonly kind: 'cleanup'; readonly now: number; readonly maxRemoved: number }
  | { readonly kind: 'count'; readonly now: number }
  | {
      readonly kind: 'page';
      readonly after: SessionKey | undefined;
      readonly now: number;
      readonly maxRows: number;
    }
  | ({ readonly kind: 'pick' } & PeerPageQuery)
  /** One transaction. */
  | { readonly kind: 'enter'; readonly copies: readonly PeerCopy[]; readonly now: number }
  | { readonly kind: 'stamp' }
  | { readonly kind: 'close' };

export type RequestKind = WriterRequest['kind'];
export type RequestOf<Kind extends RequestKind> = Extract<WriterRequest, { kind: Kind }>;

export interface WriterAnswers {
  write: {
    /** In the order of the writes. */
    readonly results: readonly WriteResult[];
    /** Bindings that had to make room, none of them expired. */
    readonly evicted: readonly SessionKey[];
  };
  cleanup: { readonly removedCount: number; readonly evicted: readonly SessionKey[] };
  count: { readonly total: number; readonly expired: number; readonly sizeBytes: number };
  page: {
    readonly bindings: readonly Binding[];
    /** Where the next page goes on; undefined after the last one. */
    readonly next: SessionKey | undefined;
  };
  pick: PeerPageRows;
  enter: {
    readonly entered: number;
    /** Those in whose place another binding was. */
    readonly replaced: readonly SessionKey[];
  };
  stamp: Stamp;
  close: undefined;
}

/** Both are equal to those of an earlier answer only if no other connection has committed in between. */
export interface Stamp {
  /** A data version is one of a connection alone, and each thread has another one. */
  readonly threadId: number;
  readonly dataVersion: number;
}

export type WriteResult =
  | { readonly kind: 'done'; readonly outcome: Outcome }
  | { readonly kind: 'failed'; readonly failure: WriterFailure };

/** A StoreError as it crosses threads. */
export interface WriterFailure {
  readonly code: StoreErrorCode;
  readonly message: string;
}

export type WriterReply =
  { readonly kind: 'answer'; readonly answer: WriterAnswers[RequestKind] } | Refusal;

export type Refusal =
  /** Another connection holds the write lock. Nothing was written. */
  | { readonly kind: 'busy' }
  /** A {@link StaleFileError}: the path must be opened anew, and what was written is lost. */
  | { readonly kind: 'stale'; readonly message: string }
  | { readonly kind: 'failed'; readonly failure: WriterFailure };
