/** A Machine as the load sees it. */

export interface Machine {
  /** As in `fly-replay: instance=...`, and as its app names itself. */
  readonly name: string;
  /** Where its clients connect. */
  readonly port: number;
}
