/** The resources that have been opened, to close them whatever happens. */

export interface Scope {
  /** The last opened is closed first; immediately, if everything else is already closed. */
  readonly after: (close: () => unknown) => void;
  /** Closes everything. Never rejects: failures are printed. */
  readonly end: () => Promise<void>;
  readonly isEnding: () => boolean;
}

export function createScope(): Scope {
  const closers: (() => unknown)[] = [];
  let ended: Promise<void> | undefined;

  const closeAll = async (): Promise<void> => {
    for (let close = closers.pop(); close; close = closers.pop()) {
      try {
        await close();
      } catch (error) {
        console.error('could not be closed:', error);
      }
    }
  };

  return {
    after: (close) => {
      closers.push(close);
      if (ended) ended = ended.then(closeAll);
    },
    end: () => (ended ??= closeAll()),
    isEnding: () => ended !== undefined,
  };
}
