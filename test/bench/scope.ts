/** What has been opened, for closing it however things end. */

export interface Scope {
  /** What is opened last is closed first; at once, if everything else is closed already. */
  readonly after: (close: () => unknown) => void;
  /** Closes everything. Never rejects: what can't be closed is said. */
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
