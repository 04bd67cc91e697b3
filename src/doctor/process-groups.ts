/**
 * Which process group has what. Each group has Machines of its own, and a fleet never spans groups.
 * https://fly.io/docs/launch/processes/
 */
import type { FlyToml, MachineSize, Mount, Service } from './fly-toml.ts';

/** The group of everything that names no `processes`: `app`, or the first by its name. */
export function defaultGroup({ processGroups }: Pick<FlyToml, 'processGroups'>): string {
  if (processGroups.length === 0 || processGroups.includes('app')) return 'app';
  return [...processGroups].sort()[0] ?? 'app';
}

export function groupsOf(toml: FlyToml, processes: readonly string[] = []): readonly string[] {
  return processes.length > 0 ? processes : [defaultGroup(toml)];
}

/** The groups whose Machines these services reach: the sidecar runs there. */
export function groupsServedBy(toml: FlyToml, services: readonly Service[]): readonly string[] {
  const groups = services
    .flatMap(({ processes }) => groupsOf(toml, processes))
    .filter((group) => toml.processGroups.length === 0 || toml.processGroups.includes(group));
  return groups.length > 0 ? [...new Set(groups)] : [defaultGroup(toml)];
}

/** A Machine has at most one volume. */
export function mountOf(toml: FlyToml, group: string): Mount | undefined {
  return toml.mounts.find(({ processes }) => groupsOf(toml, processes).includes(group));
}

/** Sizes without `processes` are those of every other group. */
export function machineOf({ machines }: FlyToml, group: string): MachineSize | undefined {
  return (
    machines.find(({ processes }) => processes.includes(group)) ??
    machines.find(({ processes }) => processes.length === 0)
  );
}

/** What a section has to say to be for these groups; empty: nothing. */
export function processesFor(
  toml: FlyToml,
  groups: readonly string[],
): { readonly processes?: readonly string[] } {
  const isDefault = groups.length === 1 && groups[0] === defaultGroup(toml);
  return isDefault && toml.processGroups.length <= 1 ? {} : { processes: groups };
}
