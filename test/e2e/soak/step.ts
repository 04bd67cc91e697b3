/** One step of the load: its random choices, its Machines, and the apps that it uses. */
import { systemClock } from '../../../src/clock.ts';
import type { Chance } from './chance.ts';
import type { Failure } from './failure.ts';
import type { Ledger } from './ledger.ts';
import type { Machine } from './machine.ts';
import type { Outages } from './outages.ts';
import type { ConnectionPool } from './wire/connection-pool.ts';

/** Shared by all steps. */
export interface Surroundings {
  readonly machines: readonly Machine[];
  readonly isDirect: boolean;
  readonly longestStayMs: number;
  readonly ledger: Ledger;
  readonly outages: Outages;
  readonly connections: ConnectionPool;
}

export class Step {
  /** Worker and number: with the seed, it determines what the step does. */
  readonly position: string;
  readonly chance: Chance;
  readonly around: Surroundings;
  /** Aborted when the load ends: clients that stay then disconnect. */
  readonly isOver: AbortSignal;
  /** Apps that may have received the last request. */
  readonly #apps = new Set<string>();
  #requests = 0;
  #replays = 0;
  #laters = 0;
  readonly #startMs = systemClock.monotonicMs();
  #sinceMs = this.#startMs;

  constructor(position: string, chance: Chance, isOver: AbortSignal, around: Surroundings) {
    this.position = position;
    this.chance = chance;
    this.isOver = isOver;
    this.around = around;
  }

  /** Requests that were sent, including those of a replay. */
  get requests(): number {
    return this.#requests;
  }

  get replays(): number {
    return this.#replays;
  }

  /** Requests that were sent again, because a sidecar requested it. */
  get laters(): number {
    return this.#laters;
  }

  noteLater(): void {
    this.#laters += 1;
  }

  anyMachine(): Machine {
    return this.chance.pick(this.around.machines);
  }

  machineCalled(name: string): Machine | undefined {
    return this.around.machines.find((machine) => machine.name === name);
  }

  otherThan({ name }: Machine): Machine {
    return this.chance.pick(this.around.machines.filter((machine) => machine.name !== name));
  }

  /** Call this before each request: later events belong to that request. */
  beginRequest(to: Machine, owner: string | undefined): string {
    this.#apps.clear();
    this.#sinceMs = systemClock.monotonicMs();
    this.touch(to, owner);
    this.#requests += 1;
    return `${this.position.replaceAll(' ', '-')}-${this.#requests}`;
  }

  /** The request continues there. */
  replayTo(to: Machine): void {
    this.#requests += 1;
    this.#replays += 1;
    this.touch(to, undefined);
  }

  touch({ name }: Machine, owner: string | undefined): void {
    this.#apps.add(name);
    if (owner !== undefined) this.#apps.add(owner);
  }

  /** Whether one of the apps concerned was down meanwhile. */
  isExplained({ outageWithinMs }: Failure): boolean {
    if (outageWithinMs === undefined) return false;
    const { isDirect, outages } = this.around;
    // Only a sidecar keeps a client's connection when the app behind it is killed.
    const sinceMs = isDirect ? this.#startMs : this.#sinceMs;
    return outages.explains(this.#apps, sinceMs - outageWithinMs);
  }

  /** A pause, or up to the end of the load. */
  async stay(ms: number): Promise<void> {
    await systemClock.sleep(Math.min(ms, this.around.longestStayMs), this.isOver);
  }
}
