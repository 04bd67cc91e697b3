/** Why a command about sessions can't be carried out, for people, and as an exit code. */
import { StoreError } from '../../store/store.ts';
import { EXIT_CONFIG, EXIT_FAILURE, EXIT_UNAVAILABLE, EXIT_USAGE } from '../../app/exit-codes.ts';

export class CommandFailed extends Error {
  override readonly name = 'CommandFailed';
  readonly exitCode: number;

  private constructor(exitCode: number, message: string, cause?: unknown) {
    super(message, { cause });
    this.exitCode = exitCode;
  }

  static unavailable(message: string, cause?: unknown): CommandFailed {
    return new CommandFailed(EXIT_UNAVAILABLE, message, cause);
  }

  static settings(message: string): CommandFailed {
    return new CommandFailed(EXIT_CONFIG, message);
  }

  static usage(message: string): CommandFailed {
    return new CommandFailed(EXIT_USAGE, message);
  }

  static file(message: string, cause?: unknown): CommandFailed {
    return new CommandFailed(EXIT_FAILURE, message, cause);
  }
}

export function exitCodeFor(error: unknown): number {
  if (error instanceof CommandFailed) return error.exitCode;
  return error instanceof StoreError ? EXIT_UNAVAILABLE : EXIT_FAILURE;
}
