/**
 * How much is measured: enough to trust the medians, or just enough to check that everything runs.
 */

export interface Effort {
  /**
   * The number of rounds. The candidates take turns: A B C A B C, so that a slow phase of the
   * machine affects all alike.
   */
  readonly rounds: number;
  /** Length of one candidate's turn in ms, and of the warm-up before it, which does not count. */
  readonly turnMs: number;
  readonly warmUpMs: number;
  /** The first turn's warm-up, in ms: the compilers of V8 need it. */
  readonly firstWarmUpMs: number;
  /** Where a difference of a few percent counts: many short turns, in several fresh processes. */
  readonly paired: {
    readonly launches: number;
    readonly rounds: number;
    readonly turnMs: number;
    readonly warmUpMs: number;
  };
  readonly connections: number;
  /** Connections for bodies of 1 MB. */
  readonly largeConnections: number;
  readonly webSockets: number;
  /** Keep-alive connections opened, none of them in use. */
  readonly idleConnections: number;
  /** Event streams opened. */
  readonly streams: number;
  /** Streams or connections that are already open when the memory of more of them is measured. */
  readonly heldBefore: number;
  /** Fresh processes per candidate where memory is measured. */
  readonly memoryRounds: number;
  /** Sessions in the SQLite file of the replay bench. */
  readonly storedSessions: number;
  /** Sessions in the SQLite file of the store benches. */
  readonly sessionsOnDisk: number;
  /** Lookups in one turn. */
  readonly lookups: number;
  /** Lookups in one turn, in a database that is not on this Machine. */
  readonly remoteLookups: number;
  /** New bindings in one turn. */
  readonly claims: number;
  /** The write-ahead log that a checkpoint must flush, and that a crash leaves behind. */
  readonly checkpointLogBytes: number;
  readonly crashedLogBytes: number;
  /** Sessions in use, and the number of TTLs that they are used, in the touch bench. */
  readonly touchedSessions: number;
  readonly touchedTtls: number;
}

const MIB = 1024 * 1024;

export const FULL: Effort = {
  rounds: 5,
  turnMs: 2_000,
  warmUpMs: 300,
  firstWarmUpMs: 2_000,
  paired: { launches: 3, rounds: 16, turnMs: 400, warmUpMs: 100 },
  connections: 64,
  largeConnections: 16,
  webSockets: 64,
  idleConnections: 2_000,
  streams: 1_000,
  heldBefore: 2_000,
  memoryRounds: 3,
  storedSessions: 100_000,
  sessionsOnDisk: 1_000_000,
  lookups: 20_000,
  remoteLookups: 2_000,
  claims: 20_000,
  checkpointLogBytes: 100 * MIB,
  crashedLogBytes: 16 * MIB,
  touchedSessions: 10_000,
  touchedTtls: 3,
};

export const SHORT: Effort = {
  rounds: 1,
  turnMs: 300,
  warmUpMs: 100,
  firstWarmUpMs: 300,
  paired: { launches: 1, rounds: 1, turnMs: 400, warmUpMs: 100 },
  connections: 16,
  largeConnections: 4,
  webSockets: 16,
  idleConnections: 200,
  streams: 50,
  heldBefore: 50,
  memoryRounds: 1,
  storedSessions: 1_000,
  sessionsOnDisk: 5_000,
  lookups: 500,
  remoteLookups: 200,
  claims: 500,
  checkpointLogBytes: 2 * MIB,
  crashedLogBytes: MIB,
  touchedSessions: 200,
  touchedTtls: 2,
};
