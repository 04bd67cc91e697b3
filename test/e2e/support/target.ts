/** The target of a scenario: today a simulation, later a deployment. */
export interface Target {
  readonly url: string;
  /** Whether ids reach the client with `~<machine>`. */
  readonly hints: boolean;
}

/** Whether an id has the expected form for the client of such a target. */
export function hasExpectedForm(id: string, machine: string, { hints }: Target): boolean {
  return hints ? id.endsWith(`~${machine}`) : !id.includes('~');
}
