/** All that a story knows of what it is told about: today a simulation, tomorrow a deployment. */
export interface Target {
  readonly url: string;
  /** Whether ids reach the client with `~<machine>`. */
  readonly hints: boolean;
}

/** Whether an id looks as it should to the client of such a target. */
export function looksRight(id: string, machine: string, { hints }: Target): boolean {
  return hints ? id.endsWith(`~${machine}`) : !id.includes('~');
}
