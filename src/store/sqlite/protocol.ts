/**
 * The messages between the main thread and the writer thread: one response for each request, in
 * order.
 */
import type { Binding, SessionKey } from '../../session.ts';
import type { Outcome, Write } from '../rules.ts';
import type { Inode, OpenedFiles } from './file.ts';
import type { PeerPageQuery, PeerPageRows } from './rows.ts';
import type { StoreErrorCode, StoreLimits, PeerCopy } from '../store.ts';

/** The thread's start parameters. */
export interface WriterSettings {
  readonly path: string;
  /** The file's inode when it was first opened; undefined for the first time. */
  readonly database: Inode | undefined;
  readonly limits: StoreLimits;
}

/** The first message of the thread: the result of its start, not a response to a request. */
export type WriterStart = { readonly kind: 'opened'; readonly files: OpenedFiles } | WriterError;

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
  | { readonly kind: 'addCopies'; readonly copies: readonly PeerCopy[]; readonly now: number }
  | { readonly kind: 'stamp' }
  | { readonly kind: 'close' };

export type RequestKind = WriterRequest['kind'];
export type RequestOf<Kind extends RequestKind> = Extract<WriterRequest, { kind: Kind }>;

export interface WriterResponses {
  write: {
    /** In the order of the writes. */
    readonly results: readonly WriteResult[];
    /** Evicted bindings, none of them expired. */
    readonly evicted: readonly SessionKey[];
  };
  cleanup: { readonly removedCount: number; readonly evicted: readonly SessionKey[] };
  count: { readonly total: number; readonly expired: number; readonly sizeBytes: number };
  page: {
    readonly bindings: readonly Binding[];
    /** Where the next page starts; undefined after the last one. */
    readonly next: SessionKey | undefined;
  };
  pick: PeerPageRows;
  addCopies: {
    readonly entered: number;
    /** Those that replaced another binding. */
    readonly replaced: readonly SessionKey[];
  };
  stamp: Stamp;
  close: undefined;
}

/**
 * Both are equal to those of an earlier response only if no other connection has committed in
 * between.
 */
export interface Stamp {
  /** A data version belongs to one connection, and each thread has another one. */
  readonly threadId: number;
  readonly dataVersion: number;
}

export type WriteResult =
  | { readonly kind: 'done'; readonly outcome: Outcome }
  | { readonly kind: 'failed'; readonly failure: WriterFailure };

/** A StoreError as it crosses threads. */
interface WriterFailure {
  readonly code: StoreErrorCode;
  readonly message: string;
}

export type WriterMessage =
  { readonly kind: 'response'; readonly response: WriterResponses[RequestKind] } | WriterError;

export type WriterError =
  /** Another connection holds the write lock. Nothing was written. */
  | { readonly kind: 'busy' }
  /** A {@link StaleFileError}: the path must be opened again, and what was written is lost. */
  | { readonly kind: 'stale'; readonly message: string }
  | { readonly kind: 'failed'; readonly failure: WriterFailure };
