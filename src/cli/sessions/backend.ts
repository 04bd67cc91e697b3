/** Where a command reads and writes sessions: behind a running sidecar, or in the store itself. */
import { EXIT_CONFIG, EXIT_FAILURE, EXIT_UNAVAILABLE, EXIT_USAGE } from '../../app/lifecycle.ts';
import type { Clock } from '../../clock.ts';
import { parseToolConfig, type ToolConfig } from '../../config/config.ts';
import type { Environment } from '../../config/environment.ts';
import type { Binding, MachineId, SessionKey } from '../../session.ts';
import type { MergeCounts } from '../../sessions/import.ts';
import type { Selection } from '../../sessions/document.ts';
import { StoreError } from '../../store/store.ts';

/** Every method rejects with a message for the operator. */
export interface SessionBackend {
  /** For messages: without credentials. */
  readonly name: string;
  readonly entries: (selection: Selection) => AsyncIterable<Binding>;
  readonly find: (key: SessionKey) => Promise<Binding | undefined>;
  /** False if the session does not exist, or another Machine owns it. */
  readonly remove: (key: SessionKey, ifOwner?: MachineId) => Promise<boolean>;
  /** At most `mergeBatchSize` of them, and no key twice. */
  readonly merge: (bindings: readonly Binding[], isDryRun: boolean) => Promise<MergeCounts>;
  readonly mergeBatchSize: number;
  readonly close: () => Promise<void>;
}

export interface BackendParts {
  readonly clock: Clock;
  readonly random: () => number;
  /** Shows a message to the operator. */
  readonly notify: (message: string) => void;
  /** Whether to create a file that does not exist. */
  readonly mayCreate: boolean;
}

/** Why a command failed: a message for the operator, and an exit code. */
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

/** Throws what is wrong with the settings. */
export function readToolConfig(env: Environment): ToolConfig {
  const parsed = parseToolConfig(env);
  if ('config' in parsed) return parsed.config;
  throw CommandFailed.settings(parsed.mistakes.join('; '));
}
