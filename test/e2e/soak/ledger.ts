/** The requests sent to each Machine, and their responses as the client received them. */

/** Undefined: the client or the server has disconnected before the response was complete. */
export type Status = number | undefined;

export class Ledger {
  /** By Machine, then by request id. */
  readonly #requests = new Map<string, Map<string, Status>>();
  readonly #malformed = new Map<string, number>();

  sent(machine: string, id: string): void {
    this.#of(machine).set(id, undefined);
  }

  recordResponse(machine: string, id: string, status: number): void {
    this.#of(machine).set(id, status);
  }

  /** A request whose id no sidecar can know for sure. */
  sentMalformed(machine: string): void {
    this.#malformed.set(machine, this.malformedOf(machine) + 1);
  }

  requestsOf(machine: string): ReadonlyMap<string, Status> {
    return this.#of(machine);
  }

  malformedOf(machine: string): number {
    return this.#malformed.get(machine) ?? 0;
  }

  #of(machine: string): Map<string, Status> {
    const known = this.#requests.get(machine);
    if (known) return known;
    const made = new Map<string, Status>();
    this.#requests.set(machine, made);
    return made;
  }
}
