/**
 * What a room server reports to the test: one line of its output for each socket that opens or
 * closes.
 */

export interface Socket {
  readonly room: string;
  /** The client, by the name in its URL. */
  readonly client: string;
  /** Unique among the sockets of all processes. */
  readonly id: string;
  readonly machine: string;
}

export type RoomEntry =
  /** The sockets of the previous process are closed. */
  | { readonly kind: 'started'; readonly machine: string }
  | { readonly kind: 'joined' | 'left'; readonly socket: Socket };

const MARK = '@room ';
const HERE = { machine: process.env.FLY_MACHINE_ID ?? '', pid: process.pid };

let sockets = 0;

export function noteStarted(): void {
  write({ kind: 'started', machine: HERE.machine });
}

/** Returns a function that records the end of the same socket. */
export function noteJoined(room: string, client: string): () => void {
  sockets += 1;
  const socket = { room, client, id: `${HERE.pid}.${sockets}`, machine: HERE.machine };
  write({ kind: 'joined', socket });
  return () => write({ kind: 'left', socket });
}

/** Undefined for every other line. */
export function parseRoomLine(line: string): RoomEntry | undefined {
  if (!line.startsWith(MARK)) return undefined;
  return JSON.parse(line.slice(MARK.length)) as RoomEntry;
}

function write(entry: RoomEntry): void {
  process.stdout.write(`${MARK}${JSON.stringify(entry)}\n`);
}
