/** A new version of the app, by Fly's strategies (https://fly.io/docs/reference/configuration/#picking-a-deployment-strategy). */
import type { MachineState } from './targets.ts';

/**
 * `rolling`: one Machine after the other is stopped and started. `immediate`: all at once. Both keep
 * ids and volumes. `bluegreen`: as many new Machines are started, and once they listen the old ones
 * are stopped and destroyed; ids and volumes are new.
 */
export type DeployStrategy = 'rolling' | 'bluegreen' | 'immediate';

export interface DeployableMachine {
  readonly region: string;
  readonly state: MachineState;
  start(): Promise<void>;
  stop(): Promise<void>;
  destroy(): Promise<void>;
}

export interface Deployable<Machine extends DeployableMachine> {
  readonly machines: readonly Machine[];
  /** Resolves when the new Machine listens. */
  addMachine(region: string): Promise<Machine>;
}

/** A rolling deploy goes on to the next Machine once the one before listens. */
export async function deploy<Machine extends DeployableMachine>(
  app: Deployable<Machine>,
  strategy: DeployStrategy,
): Promise<void> {
  const old = app.machines.filter(({ state }) => state !== 'destroyed');
  switch (strategy) {
    case 'rolling':
      for (const machine of old) await replaceVersion(machine);
      return;
    case 'immediate':
      await Promise.all(old.map(replaceVersion));
      return;
    case 'bluegreen':
      await Promise.all(old.map(({ region }) => app.addMachine(region)));
      await Promise.all(old.map(retire));
  }
}

/** One that is stopped gets its new version when it is started. */
async function replaceVersion(machine: DeployableMachine): Promise<void> {
  if (!isUp(machine)) return;
  await machine.stop();
  await machine.start();
}

async function retire(machine: DeployableMachine): Promise<void> {
  if (isUp(machine)) await machine.stop();
  await machine.destroy();
}

/** A suspended one loses its memory too: a deploy discards the snapshot. */
function isUp({ state }: DeployableMachine): boolean {
  return state === 'started' || state === 'suspended';
}
