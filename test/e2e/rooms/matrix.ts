/** Which room server is tested with which store behind which edge. */
import type { SpreadName } from '../../../src/simulator/spread.ts';
import type { ServerName } from './guests.ts';

export type StoreName = 'sqlite' | 'redis' | 'postgres';

export interface Combination {
  readonly server: ServerName;
  readonly store: StoreName;
  readonly spread: SpreadName;
  /** Ids that an app may create too are placed within a region by default. */
  readonly layout: 'three regions' | 'one region' | 'three regions, PLACEMENT=fleet';
  /** Tested in every run; the others with `ROOMS=all`. */
  readonly isAlwaysTried: boolean;
}

type Row = [ServerName, StoreName, SpreadName, Combination['layout'], 'always' | 'on demand'];

/** Every server is combined with every store and both spreads, and so is every store. */
const ROWS: readonly Row[] = [
  ['y-websocket', 'sqlite', 'never-same', 'three regions', 'always'],
  ['y-websocket', 'redis', 'random', 'three regions', 'on demand'],
  ['y-websocket', 'postgres', 'random', 'three regions', 'on demand'],
  ['hocuspocus', 'sqlite', 'random', 'three regions', 'on demand'],
  ['hocuspocus', 'redis', 'never-same', 'three regions', 'on demand'],
  ['hocuspocus', 'postgres', 'never-same', 'three regions', 'always'],
  ['chat', 'sqlite', 'random', 'one region', 'on demand'],
  ['chat', 'redis', 'random', 'three regions, PLACEMENT=fleet', 'always'],
  ['chat', 'postgres', 'never-same', 'one region', 'on demand'],
];

/** `ROOMS`: unset, `all`, or the number of one combination, from 1. */
export function combinationsFor(wanted: string | undefined): readonly Combination[] {
  const all = ROWS.map(([server, store, spread, layout, when]) => ({
    ...{ server, store, spread, layout },
    isAlwaysTried: when === 'always',
  }));
  if (wanted === 'all') return all;
  if (wanted === undefined) return all.filter(({ isAlwaysTried }) => isAlwaysTried);
  return all.slice(Number(wanted) - 1, Number(wanted));
}
