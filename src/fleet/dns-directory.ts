/**
 * The directory out of Fly's private DNS
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
import type { Directory, DirectoryStatus, Peer } from './directory.ts';
import type { ListedPeer, Liveness } from './liveness.ts';
import type { NameResolver } from './dns-resolver.ts';

export interface DnsDirectoryOptions {
  readonly self: MachineId;
  readonly appName: string;
  /** Only Machines of this process group are the fleet; unset: all of the app. */
  readonly processGroup?: string | undefined;
  readonly resolver: NameResolver;
  /** Port of the peer listener on every Machine. */
  readonly peerPort: number;
  /** Told of each reading; it answers for the last one. */
  readonly liveness: Liveness;
  readonly clock: Clock;
  readonly intervalMs?: number;
  /** Told when the status turns to another kind. */
  readonly onStatus?: (status: DirectoryStatus) => void;
  /** Called once, by the first reading that lists other Machines, which waits for it. Never rejects. */
  readonly onOthers?: () => Promise<void>;
}

const INTERVAL_MS = 5_000;

/** A reading asked for out of turn comes this long after the last one at the earliest, in ms. */
const LOOK_AGAIN_AFTER_MS = 500;
/** Who asks for one waits so long at most, in ms: a request may be waiting with it. */
const LOOK_AGAIN_WAIT_MS = 300;

/** A reading older than so many intervals is no news: the process was suspended, or readings hang. */
const STALE_INTERVALS = 3;

interface FleetReading {
  readonly entries: readonly ListedPeer[];
  readonly running: ReadonlySet<MachineId>;
  readonly deployed: ReadonlySet<MachineId>;
}

/** A reading that proves nothing; the message says what was missing. */
class ReadingError extends Error {
  override readonly name = 'ReadingError';
}

export function createDnsDirectory(options: DnsDirectoryOptions): Directory {
  return new DnsDirectory(options);
}

/**
 * Reads once per interval, counted from the begin of a reading to the begin of the next.
 *
 * A reading succeeds if the lists of running and of deployed Machines (and of the process group)
 * were answered and all list this Machine: an answer that lacks the one Machine that is certain to
 * run can't be trusted about the others. An address that isn't found fails no reading: the Machine
 * stays in the fleet without an address, so questions to it end without an answer.
 */
class DnsDirectory implements Directory {
  readonly #options: DnsDirectoryOptions;
  readonly #intervalMs: number;
  readonly #liveness: Liveness;
  readonly #addresses: MachineAddresses;
  #status: DirectoryStatus = { kind: 'starting' };
  /** Whether the interval that the last reading claimed is over. */
  #isDue = true;
  #readingUnderWay: Promise<void> | undefined;
  #cancelNext: Cancel | undefined;
  #beganAtMs = -Infinity;
  /** When the last reading that succeeded began. */
  #succeededFromMs = -Infinity;
  readonly #stopping = new AbortController();
  #isStopped = false;
  #hadOthers = false;

  constructor(options: DnsDirectoryOptions) {
    const { appName, resolver, liveness } = options;
    this.#options = options;
    this.#intervalMs = options.intervalMs ?? INTERVAL_MS;
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

  /** Nobody waits for it any more: the list can't be read just now, though that has not failed yet. */
  #isReadingLate(): boolean {
    const underWayMs = this.#options.clock.monotonicMs() - this.#beganAtMs;
    return this.#readingUnderWay !== undefined && underWayMs >= LOOK_AGAIN_WAIT_MS;
  }

  status(): DirectoryStatus {
    if (this.#status.kind !== 'ok') return this.#status;
    const ageMs = this.#options.clock.now() - this.#status.readAt;
    if (ageMs <= STALE_INTERVALS * this.#intervalMs) return this.#status;
    return { kind: 'failing', since: this.#status.readAt, reason: 'the last reading is too old' };
  }

  start(): Promise<void> {
    return this.refresh();
  }

  async refresh(): Promise<void> {
    await this.#readingUnderWay;
    if (this.#isDue && !this.#isStopped) this.#read();
    await this.#readingUnderWay;
  }

  async findNewMachines(isHurried = false): Promise<boolean | undefined> {
    const known = new Set(this.#liveness.others().map(({ machine }) => machine));
    const arrivedAtMs = this.#options.clock.monotonicMs();
    const lastSuccessMs = this.#succeededFromMs;
    const isRecent = lastSuccessMs > arrivedAtMs - LOOK_AGAIN_AFTER_MS;
    if (isHurried && isRecent) return false;
    const hasJustFailed =
      !this.#readingUnderWay && this.#beganAtMs > arrivedAtMs - LOOK_AGAIN_AFTER_MS;
    if (isHurried && hasJustFailed) return undefined;
    await (isHurried ? this.#untilRead(arrivedAtMs) : this.#untilReadSince(arrivedAtMs));
    const sinceMs = isHurried ? lastSuccessMs + 1 : arrivedAtMs;
    if (this.#succeededFromMs < sinceMs) return undefined;
    return this.#liveness.others().some(({ machine }) => !known.has(machine));
  }

  /** A reading that began before says nothing of what has started since. */
  async #untilReadSince(arrivedAtMs: number): Promise<void> {
    const { clock } = this.#options;
    const tooSoonMs = this.#beganAtMs + LOOK_AGAIN_AFTER_MS - arrivedAtMs;
    if (tooSoonMs > 0) await clock.sleep(tooSoonMs, this.#stopping.signal);
    await this.#untilRead(arrivedAtMs);
  }

  /** One that is under way, or else a new one, unless one has begun since; 300 ms at most. */
  async #untilRead(sinceMs: number): Promise<void> {
    const { clock } = this.#options;
    const hasBegun = this.#beganAtMs > sinceMs || this.#readingUnderWay !== undefined;
    if (!hasBegun && !this.#isStopped) {
      this.#cancelNext?.();
      this.#read();
    }
    if (!this.#readingUnderWay) return;
    const abort = new AbortController();
    const isOver = this.#readingUnderWay.finally(() => abort.abort());
    await Promise.race([isOver, clock.sleep(LOOK_AGAIN_WAIT_MS, abort.signal)]);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#stopping.abort();
    this.#cancelNext?.();
    this.#options.resolver.cancel();
    await this.#readingUnderWay;
  }

  /** Claims the interval before it asks anybody, so that a second caller joins or is turned down. */
  #read(): void {
    this.#isDue = false;
    this.#beganAtMs = this.#options.clock.monotonicMs();
    this.#cancelNext = this.#options.clock.after(this.#intervalMs, () => {
      this.#isDue = true;
      void this.refresh();
    });
    this.#readingUnderWay = this.#readOnce().finally(() => (this.#readingUnderWay = undefined));
  }

  async #readOnce(): Promise<void> {
    const startedAtMs = this.#options.clock.monotonicMs();
    try {
      const { entries, running, deployed } = await this.#readFleet();
      if (this.#isStopped) return;
      const endedAtMs = this.#options.clock.monotonicMs();
      this.#liveness.onReading({ startedAtMs, endedAtMs, entries, running, deployed });
      this.#succeededFromMs = startedAtMs;
      this.#turnTo({ kind: 'ok', readAt: this.#options.clock.now() });
      await this.#greetOthers();
    } catch (error) {
      if (!this.#isStopped) this.#turnTo(this.#failed(error));
    }
  }

  async #greetOthers(): Promise<void> {
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
    const records = await this.#asked(name, (resolver) => resolver.txt(name));
    const machines = parseMachinesTxt(records).map(({ id }) => id);
    if (machines.includes(this.#options.self)) return [...new Set(machines)];
    throw new ReadingError(`${name} does not list this Machine`);
  }

  /**
   * Whether a Machine with these addresses is in our process group: `vms.` lists all groups. One
   * without a known address may be, so it counts as one: asking it stays without an answer.
   */
  async #membership(ownAddresses: readonly string[]): Promise<(a: readonly string[]) => boolean> {
    const { appName, processGroup } = this.#options;
    if (processGroup === undefined) return () => true;
    const name = processGroupName(appName, processGroup);
    const answered = await this.#asked(name, (resolver) => resolver.aaaa(name));
    const ofGroup = new Set(answered.map(normalizeAddress));
    const isMember = (addresses: readonly string[]): boolean =>
      addresses.length === 0 || addresses.some((address) => ofGroup.has(address));
    if (ownAddresses.length > 0 && isMember(ownAddresses)) return isMember;
    throw new ReadingError(`${name} does not list this Machine`);
  }

  async #asked<T>(name: string, ask: (resolver: NameResolver) => Promise<T>): Promise<T> {
    try {
      return await ask(this.#options.resolver);
    } catch (cause) {
      throw new ReadingError(`${name}: ${codeOf(cause)}`, { cause });
    }
  }

  #entryOf(machine: MachineId, addresses: readonly string[]): ListedPeer {
    const { appName, peerPort } = this.#options;
    const [address] = addresses;
    const peer = { machine, host: machineName(appName, machine), port: peerPort };
    return { peer: address === undefined ? peer : { ...peer, address }, addresses };
  }

  #failed(error: unknown): DirectoryStatus {
    const before = this.#status;
    const since = before.kind === 'failing' ? before.since : this.#options.clock.now();
    const reason = error instanceof ReadingError ? error.message : 'the answer could not be read';
    return { kind: 'failing', since, reason };
  }

  #turnTo(status: DirectoryStatus): void {
    const hasTurned = status.kind !== this.#status.kind;
    this.#status = status;
    if (hasTurned) this.#options.onStatus?.(status);
  }
}

/** c-ares' code (`ENOTFOUND`, `ETIMEOUT`, ...), https://nodejs.org/api/dns.html#error-codes. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error && 'code' in error)) return 'no answer';
  return typeof error.code === 'string' ? error.code : 'no answer';
}
