/** Probes a Redis server: version, role, eviction policy and clock. Writes nothing and loads no script. */
import type { Clock } from '../clock.ts';
import { compareClock } from './clock-offset.ts';
import type { ProbedDatabase, DatabaseRemark } from './store.ts';
import { parseRedisUrl, type RedisLink, dialRedisBare } from '../store/redis/link.ts';

/** Rejects with a StoreError that shows no credentials. */
export async function probeRedis(
  url: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<ProbedDatabase> {
  const address = parseRedisUrl(url);
  const link = await dialRedisBare(address, { clock, signal, onBroken: () => undefined });
  try {
    const [atMs, startedMs] = [clock.now(), clock.monotonicMs()];
    const time = await link.send(['TIME']);
    const roundTripMs = clock.monotonicMs() - startedMs;
    const clocks = [compareClock('Redis', timeIn(time), 0, { atMs, roundTripMs })];
    const remarks = remarksOn(await infoOf(link));
    return { facts: { kind: 'usable', roundTripMs, remarks }, clocks };
  } finally {
    link.close();
  }
}

const US_PER_MS = 1_000;

/** Redis returns seconds and microseconds, as strings. */
function timeIn(time: unknown): number {
  const [seconds, micros] = Array.isArray(time) ? time.map(Number) : [];
  return (seconds ?? NaN) * 1_000 + (micros ?? NaN) / US_PER_MS;
}

/** Empty if the user may not run INFO: the doctor then has no remarks. */
async function infoOf(link: RedisLink): Promise<ReadonlyMap<string, string>> {
  const text = await link.send(['INFO']).catch(() => '');
  const lines = String(text).split('\r\n');
  return new Map(
    lines.flatMap((line) => {
      const [, name, value] = /^(\w+):([\x20-\x7e]*)$/.exec(line) ?? [];
      return name !== undefined && value !== undefined ? [[name, value] as const] : [];
    }),
  );
}

const OLDEST = { text: '6.2', major: 6, minor: 2 };

function remarksOn(info: ReadonlyMap<string, string>): DatabaseRemark[] {
  const remarks: DatabaseRemark[] = [];
  const version = info.get('redis_version');
  const [major = NaN, minor = NaN] = (version ?? '').split('.').map(Number);
  const isOld = major < OLDEST.major || (major === OLDEST.major && minor < OLDEST.minor);
  if (version !== undefined && isOld) {
    remarks.push({ kind: 'old-version', version, oldest: OLDEST.text });
  }
  if (info.get('role') === 'slave') remarks.push({ kind: 'read-only' });
  const policy = info.get('maxmemory_policy');
  if (policy !== undefined && policy !== 'noeviction') remarks.push({ kind: 'evicts', policy });
  return remarks;
}
