/** The settings of a run from the environment. */
import { KIND_NAMES, type KindName } from './kinds/kinds.ts';

export interface Settings {
  readonly seed: number;
  /** Length of the load that is checked, in ms. The warm-up precedes it. */
  readonly loadMs: number;
  /** Length of the same load before memory is measured for the first time, in ms. */
  readonly warmUpMs: number;
  /** The maximum duration of a stream, a WebSocket or an idle connection, in ms. */
  readonly longestStayMs: number;
  /** The load goes directly to the apps: a check of the script, without a sidecar. */
  readonly isDirect: boolean;
  readonly kinds: readonly KindName[];
  /** Prints the failures that a killed app explains, too. */
  readonly isVerbose: boolean;
}

const DEFAULT_SECONDS = 600;
const MAX_SEED = 2 ** 31;
const MIN_WARM_UP_MS = 10_000;
const MAX_WARM_UP_MS = 90_000;
const MAX_STAY_MS = 20_000;

/** Throws for a value that can't be used. */
export function readSettings(env: NodeJS.ProcessEnv): Settings {
  const loadMs = 1_000 * readNumber(env, 'SOAK_SECONDS', DEFAULT_SECONDS);
  return {
    seed: readNumber(env, 'SOAK_SEED', 1 + Math.floor(Math.random() * MAX_SEED)),
    loadMs,
    warmUpMs: Math.min(MAX_WARM_UP_MS, Math.max(MIN_WARM_UP_MS, loadMs / 4)),
    longestStayMs: Math.min(MAX_STAY_MS, loadMs / 3),
    isDirect: env.SOAK_DIRECT === '1',
    kinds: readKinds(env.SOAK_KINDS),
    isVerbose: env.SOAK_VERBOSE === '1',
  };
}

function readNumber(env: NodeJS.ProcessEnv, name: string, fallback: number): number {
  const text = env[name];
  if (text === undefined || text === '') return fallback;
  if (/^\d{1,10}$/.test(text) && Number(text) > 0) return Number(text);
  throw new Error(`${name} must be a whole number above 0, got ${JSON.stringify(text)}`);
}

function readKinds(text: string | undefined): readonly KindName[] {
  if (text === undefined || text === '') return KIND_NAMES;
  const kinds = KIND_NAMES.filter((name) => text.split(',').includes(name));
  if (kinds.length === text.split(',').length) return kinds;
  throw new Error(`SOAK_KINDS must list some of ${KIND_NAMES.join(', ')}, got ${text}`);
}
