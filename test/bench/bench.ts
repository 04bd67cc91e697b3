/** The inputs of every bench, and its interface. */
import type { Workspace } from './compiled.ts';
import type { Effort } from './effort.ts';
import type { Load } from './load.ts';
import type { BenchResult } from './result.ts';
import type { Scope } from './scope.ts';

export interface Stage extends Pick<Scope, 'after'> {
  readonly effort: Effort;
  readonly load: Load;
  readonly workspace: Workspace;
}

export type Bench = (stage: Stage) => Promise<BenchResult>;
