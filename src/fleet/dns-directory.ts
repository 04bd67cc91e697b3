/**
 * The directory that reads Fly's private DNS
 * (https://fly.io/docs/networking/private-networking/#fly-io-internal-dns).
 */
import type { MachineId } from '../session.ts';
import type { Cancel, Clock } from '../clock.ts';
import {
  deployedMachinesName,
  machineName,
  parseMachinesTxt,
  processGroupName,
  runningMachinesName,
} from '../fly.ts';
import { MachineAddresses, normalizeAddress } from './addresses.ts';
import {
  listedPeer,
  type Directory,
  type DirectoryStatus,
  type ListedPeer,
  type Peer,
  type Reading,
} from './directory.ts';
import type { NameResolver } from './dns-resolver.ts';
import type { Liveness } from './liveness.ts';
import { codeOf } from '../errors.ts';

export interface DnsDirectoryOptions {
  readonly self: MachineId;
  readonly appName: string;
  /** The fleet is the Machines of this process group; if unset, all Machines of the app. */
  readonly processGroup?: string | undefined;
  readonly resolver: NameResolver;
  /** Port of the peer listener on every Machine. */
  readonly peerPort: number;
  /** Keeps the last reading. */
  readonly liveness: Liveness;
  readonly clock: Clock;
  /** Called when the status changes to another kind. */
  readonly onStatus?: (status: DirectoryStatus) => void;
  /** Called once, by the first reading that lists other Machines, which waits for it. Never rejects. */
  readonly onOthers?: () => Promise<void>;
}

const INTERVAL_MS = 5_000;

/** The shortest time from one reading to an early one, in ms. */
const EARLY_READING_AFTER_MS = 500;
/** The longest wait for an early reading, in ms: a request may wait for it too. */
const EARLY_READING_WAIT_MS = 300;

/** A reading older than this many intervals is stale: the process was suspended, or readings hang. */
const STALE_INTERVALS = 3;

type FleetReading = Omit<Reading, 'startedAtMs' | 'endedAtMs'>;

/** The reading failed and proves nothing; the message states the cause. */
class ReadingError extends Error {
  override readonly name = 'ReadingError';
}

export function createDnsDirectory(options: DnsDirectoryOptions): Directory {
  return new DnsDirectory(options);
}

/**
 * Reads once per interval, from the start of a reading to the start of the next.
 *
 * A reading succeeds if the lists of running and of deployed Machines (and of the process group)
 * resolve and all contain this Machine: a list without the one Machine that certainly runs can't be
 * trusted about the others. A missing address does not fail the reading: the Machine stays in the fleet
 * without an address, so calls to it fail.
 */
class DnsDirectory implements Directory {
  readonly #options: DnsDirectoryOptions;
  readonly #liveness: Liveness;
  readonly #addresses: MachineAddresses;
  #status: DirectoryStatus = { kind: 'starting' };
  /** Whether the interval of the last reading is over. */
  #isDue = true;
  #readingInFlight: Promise<void> | undefined;
  #cancelNext: Cancel | undefined;
  #startedAtMs = -Infinity;
  /** When the last reading that succeeded was started. */
  #lastSuccessAtMs = -Infinity;
  readonly #stopping = new AbortController();
  #isStopped = false;
  #hadOthers = false;

  constructor(options: DnsDirectoryOptions) {
    const { appName, resolver, liveness } = options;
    this.#options = options;
    this.#liveness = liveness;
    liveness.setListReadable(() => this.status().kind === 'ok' && !this.#isReadingLate());
    this.#addresses = new MachineAddresses({
      resolve: (machine) => resolver.aaaa(machineName(appName, machine)),
    });
  }

  others(): readonly Peer[] {
    return this.#liveness.others();
  }

  peer(machine: MachineId): Peer | undefined {
    return this.#liveness.peer(machine);
  }

  isPeerAddress(address: string): boolean {
    return this.#liveness.isPeerAddress(address);
  }

  isAddressOf(machine: MachineId, address: string): boolean {
    return this.#liveness.isAddressOf(machine, address);
  }

  /** Requests no longer wait for the reading: the list counts as unreadable although the reading has not failed yet. */
  #isReadingLate(): boolean {
    const inFlightMs = this.#options.clock.monotonicMs() - this.#startedAtMs;
    return this.#readingInFlight !== undefined && inFlightMs >= EARLY_READING_WAIT_MS;
  }

  status(): DirectoryStatus {
    if (this.#status.kind !== 'ok') return this.#status;
    const ageMs = this.#options.clock.now() - this.#status.readAt;
    if (ageMs <= STALE_INTERVALS * INTERVAL_MS) return this.#status;
    return { kind: 'failing', since: this.#status.readAt, reason: 'the last reading is too old' };
  }

  start(): Promise<void> {
    return this.refresh();
  }

  async refresh(): Promise<void> {
    await this.#readingInFlight;
    if (this.#isDue && !this.#isStopped) this.#read();
    await this.#readingInFlight;
  }

  async findNewMachines(isHurried = false): Promise<boolean | undefined> {
    const known = new Set(this.#liveness.others().map(({ machine }) => machine));
    const arrivedAtMs = this.#options.clock.monotonicMs();
    const lastSuccessMs = this.#lastSuccessAtMs;
    const isRecent = lastSuccessMs > arrivedAtMs - EARLY_READING_AFTER_MS;
    if (isHurried && isRecent) return false;
    const hasJustFailed =
      !this.#readingInFlight && this.#startedAtMs > arrivedAtMs - EARLY_READING_AFTER_MS;
    if (isHurried && hasJustFailed) return undefined;
    await (isHurried ? this.#untilRead(arrivedAtMs) : this.#untilReadSince(arrivedAtMs));
    const sinceMs = isHurried ? lastSuccessMs + 1 : arrivedAtMs;
    if (this.#lastSuccessAtMs < sinceMs) return undefined;
    return this.#liveness.others().some(({ machine }) => !known.has(machine));
  }

  /** A reading that started before can't contain Machines that have started since. */
  async #untilReadSince(arrivedAtMs: number): Promise<void> {
    const { clock } = this.#options;
    const tooSoonMs = this.#startedAtMs + EARLY_READING_AFTER_MS - arrivedAtMs;
    if (tooSoonMs > 0) await clock.sleep(tooSoonMs, this.#stopping.signal);
    await this.#untilRead(arrivedAtMs);
  }

  /** Waits for the reading in flight, or for a new one unless one has started since; 300 ms at most. */
  async #untilRead(sinceMs: number): Promise<void> {
    const { clock } = this.#options;
    const hasStarted = this.#startedAtMs > sinceMs || this.#readingInFlight !== undefined;
    if (!hasStarted && !this.#isStopped) {
      this.#cancelNext?.();
      this.#read();
    }
    if (!this.#readingInFlight) return;
    const abort = new AbortController();
    const isOver = this.#readingInFlight.finally(() => abort.abort());
    await Promise.race([isOver, clock.sleep(EARLY_READING_WAIT_MS, abort.signal)]);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#stopping.abort();
    this.#cancelNext?.();
    this.#options.resolver.cancel();
    await this.#readingInFlight;
  }

  /** Marks the interval as used before the DNS query, so that a second caller waits or returns. */
  #read(): void {
    this.#isDue = false;
    this.#startedAtMs = this.#options.clock.monotonicMs();
    this.#cancelNext = this.#options.clock.after(INTERVAL_MS, () => {
      this.#isDue = true;
      void this.refresh();
    });
    this.#readingInFlight = this.#readOnce().finally(() => (this.#readingInFlight = undefined));
  }

  async #readOnce(): Promise<void> {
    const startedAtMs = this.#options.clock.monotonicMs();
    try {
      const { entries, running, deployed } = await this.#readFleet();
      if (this.#isStopped) return;
      const endedAtMs = this.#options.clock.monotonicMs();
      this.#liveness.onReading({ startedAtMs, endedAtMs, entries, running, deployed });
      this.#lastSuccessAtMs = startedAtMs;
      this.#setStatus({ kind: 'ok', readAt: this.#options.clock.now() });
      await this.#reportOthers();
    } catch (error) {
      if (!this.#isStopped) this.#setStatus(this.#failed(error));
    }
  }

  async #reportOthers(): Promise<void> {
    if (this.#hadOthers || this.others().length === 0) return;
    this.#hadOthers = true;
    await this.#options.onOthers?.();
  }

  async #readFleet(): Promise<FleetReading> {
    const { appName, self } = this.#options;
    const [running, deployed] = await Promise.all([
      this.#machinesOf(runningMachinesName(appName)),
      this.#machinesOf(deployedMachinesName(appName)),
    ]);
    const addresses = await this.#addresses.of(running);
    const isMember = await this.#membership(addresses.get(self) ?? []);
    const entries = [...addresses].flatMap(([machine, ofMachine]) =>
      machine === self || !isMember(ofMachine) ? [] : [this.#entryOf(machine, ofMachine)],
    );
    return { entries, running: new Set(running), deployed: new Set(deployed) };
  }

  async #machinesOf(name: string): Promise<MachineId[]> {
    const records = await this.#query(name, (resolver) => resolver.txt(name));
    const machines = parseMachinesTxt(records).map(({ id }) => id);
    if (machines.includes(this.#options.self)) return [...new Set(machines)];
    throw new ReadingError(`${name} does not list this Machine`);
  }

  /**
   * Whether a Machine with these addresses is in our process group: `vms.` lists all groups. One
   * without a known address may be, so it counts as a member, and calls to it fail.
   */
  async #membership(ownAddresses: readonly string[]): Promise<(a: readonly string[]) => boolean> {
    const { appName, processGroup } = this.#options;
    if (processGroup === undefined) return () => true;
    const name = processGroupName(appName, processGroup);
    const records = await this.#query(name, (resolver) => resolver.aaaa(name));
    const ofGroup = new Set(records.map(normalizeAddress));
    const isMember = (addresses: readonly string[]): boolean =>
      addresses.length === 0 || addresses.some((address) => ofGroup.has(address));
    if (ownAddresses.length > 0 && isMember(ownAddresses)) return isMember;
    throw new ReadingError(`${name} does not list this Machine`);
  }

  async #query<T>(name: string, query: (resolver: NameResolver) => Promise<T>): Promise<T> {
    try {
      return await query(this.#options.resolver);
    } catch (cause) {
      // A code of c-ares, https://nodejs.org/api/dns.html#error-codes.
      throw new ReadingError(`${name}: ${codeOf(cause) ?? 'unknown error'}`, { cause });
    }
  }

  #entryOf(machine: MachineId, addresses: readonly string[]): ListedPeer {
    const { appName, peerPort } = this.#options;
    return listedPeer({ machine, host: machineName(appName, machine), port: peerPort }, addresses);
  }

  #failed(error: unknown): DirectoryStatus {
    const before = this.#status;
    const since = before.kind === 'failing' ? before.since : this.#options.clock.now();
    const reason =
      error instanceof ReadingError ? error.message : 'the DNS response could not be read';
    return { kind: 'failing', since, reason };
  }

  #setStatus(status: DirectoryStatus): void {
    const hasChanged = status.kind !== this.#status.kind;
    this.#status = status;
    if (hasChanged) this.#options.onStatus?.(status);
  }
}
