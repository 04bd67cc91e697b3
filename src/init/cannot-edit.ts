/** Thrown when a file can't be edited without harm to what is in it. */
import type { ValuePath } from '../doctor/change.ts';

export class CannotEdit extends Error {
  override readonly name = 'CannotEdit';

  constructor(path: ValuePath, reason: string) {
    super(`cannot set ${path.join('.')} in the file: ${reason}`);
  }
}
