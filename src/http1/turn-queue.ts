/** Puts something off until every socket has been looked at once more. */

/** Hands each entry to `run` after a whole turn of the event loop, in order. */
export interface TurnQueue<T> {
  push(entry: T): void;
}

/**
 * A turn is whole if a poll begins after the push: what had come in by then was read by the time
 * `run` is called. One immediate a turn serves all entries.
 */
export function createTurnQueue<T>(run: (entry: T) => void): TurnQueue<T> {
  let arrived: T[] = [];
  let polled: T[] = [];
  let isScheduled = false;

  function schedule(): void {
    isScheduled = true;
    setImmediate(onTurn);
  }

  function onTurn(): void {
    const ready = polled;
    polled = arrived;
    arrived = [];
    isScheduled = false;
    if (polled.length > 0) schedule();
    for (const entry of ready) run(entry);
  }

  return {
    push: (entry) => {
      arrived.push(entry);
      if (!isScheduled) schedule();
    },
  };
}
