/** How much is measured: enough to trust the medians, or just enough to see that it all runs. */

export interface Effort {
  /** The candidates take turns this often: A B C A B C, so that a slow spell of the machine hits all alike. */
  readonly rounds: number;
  /** Length of one candidate's turn in ms, and of the warm-up before it, which does not count. */
  readonly turnMs: number;
  readonly warmUpMs: number;
  /** The first turn's warm-up, in ms: the compilers of V8 need it. */
  readonly firstWarmUpMs: number;
  readonly connections: number;
  /** Connections for 1 MB answers. */
  readonly largeConnections: number;
  /** Event streams opened at once. */
  readonly streams: number;
  /** Fresh processes per candidate in the bench of idle streams. */
  readonly streamRounds: number;
  /** Sessions in the SQLite file of the bench of replays. */
  readonly storedSessions: number;
}

export const FULL: Effort = {
  rounds: 5,
  turnMs: 2_000,
  warmUpMs: 300,
  firstWarmUpMs: 2_000,
  connections: 64,
  largeConnections: 16,
  streams: 1_000,
  streamRounds: 3,
  storedSessions: 100_000,
};

export const SHORT: Effort = {
  rounds: 1,
  turnMs: 300,
  warmUpMs: 100,
  firstWarmUpMs: 300,
  connections: 16,
  largeConnections: 4,
  streams: 50,
  streamRounds: 1,
  storedSessions: 1_000,
};
