/** Which Machine of which app this is. */
import { parseMachineId, type MachineId } from '../session.ts';
import type { SettingValues } from './settings.ts';

export interface Identity {
  readonly machine: MachineId;
  readonly app: string | undefined;
  readonly region: string | undefined;
  readonly processGroup: string | undefined;
  /** Neither `FLY_MACHINE_ID` nor `FLY_ALLOC_ID` is set: good for one process without a fleet. */
  readonly isGenerated: boolean;
}

export function identityFrom(values: SettingValues, random: () => number): Identity {
  const machine = values.FLY_MACHINE_ID ?? parseMachineId(values.FLY_ALLOC_ID ?? '');
  return {
    machine: machine ?? generateMachineId(random),
    app: values.FLY_APP_NAME,
    region: values.FLY_REGION,
    processGroup: values.FLY_PROCESS_GROUP,
    isGenerated: machine === undefined,
  };
}

/** As long as Fly's own ids, and distinct from them by its letters. */
function generateMachineId(random: () => number): MachineId {
  const digits = Array.from({ length: 9 }, () => Math.floor(random() * 10)).join('');
  return `local${digits}` as MachineId;
}
