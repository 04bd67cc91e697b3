/** How mistakes in settings are told to a person. */
import { PREFIX } from './environment.ts';

/** Thrown before anything is started with such settings. */
export class InvalidSettings extends Error {
  override readonly name = 'InvalidSettings';

  constructor(mistakes: readonly string[]) {
    super(describeMistakes(mistakes));
  }
}

/** Apps use these names too, with values of their own. */
const COMMON_NAMES: readonly string[] = ['HOST', 'PORT', 'LOG_LEVEL'];

/** All of them, one on a line. */
export function describeMistakes(mistakes: readonly string[]): string {
  const count = mistakes.length === 1 ? '1 mistake' : `${mistakes.length} mistakes`;
  const common = COMMON_NAMES.find((name) => mistakes.some((text) => text.startsWith(`${name} `)));
  const hint =
    common && `If ${common} is meant for the app, set ${PREFIX}${common} for the sidecar.`;
  const lines = [...mistakes, ...(hint === undefined ? [] : [hint])];
  return [`${count} in the configuration`, ...lines.map((line) => `  ${line}`)].join('\n');
}
