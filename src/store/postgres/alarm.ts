/** Tells of failures once when they begin, not of every one and not of every connection. */
import { toPostgresStoreError } from './errors.ts';
import type { StoreError } from '../store.ts';

export interface FailureReporter {
  /** A connection that was up is lost. */
  broken(error: unknown): void;
  /** Something failed that no caller hears of. */
  failed(error: StoreError): void;
  /** The database has answered: what fails from now on is news. */
  worked(): void;
}

export interface FailureReporterOptions {
  readonly onError?: (error: StoreError) => void;
  readonly onDisrupted?: () => void;
}

export function createFailureReporter({
  onError,
  onDisrupted,
}: FailureReporterOptions): FailureReporter {
  let isFailing = false;
  let isDisrupted = false;
  const failed = (error: StoreError): void => {
    if (isFailing) return;
    isFailing = true;
    onError?.(error);
  };
  return {
    broken: (error) => {
      failed(toPostgresStoreError('the connection', error));
      if (isDisrupted) return;
      isDisrupted = true;
      onDisrupted?.();
    },
    failed,
    worked: () => {
      isFailing = false;
      isDisrupted = false;
    },
  };
}
