/**
 * Log lines as JSON (pino), written in batches off the request path. Nothing secret may be logged:
 * sessions are named by their key, paths come without their query, errors without extra properties.
 */
import { pino } from 'pino';
import type { MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import { createLineWriter } from './line-writer.ts';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

type WriteLine = (fields: object, message: string) => void;

/** A line is one event: its data in fields, and a constant message. */
export interface Logger {
  readonly trace: WriteLine;
  readonly debug: WriteLine;
  readonly info: WriteLine;
  readonly warn: WriteLine;
  readonly error: WriteLine;
  readonly fatal: WriteLine;
  readonly isLevelEnabled: (level: LogLevel) => boolean;
  /** Resolves when every line is written; later lines are dropped. A second call waits for the first. */
  readonly close: () => Promise<void>;
}

export interface LoggerOptions {
  readonly level: LogLevel;
  readonly machine: MachineId;
  readonly clock: Clock;
  /** Where the lines go, standard output by default. It stays open. */
  readonly fd?: number;
}

export function createLogger({ level, machine, clock, fd = STDOUT }: LoggerOptions): Logger {
  const writer = createLineWriter({ fd, clock });
  const timestamp = (): string => `,"time":${clock.now()}`;
  const serializers = { err: (error: unknown) => describeError(error) };
  const lines = pino({ level, base: { machine }, timestamp, serializers }, writer);
  return {
    trace: (fields, message) => lines.trace(fields, message),
    debug: (fields, message) => lines.debug(fields, message),
    info: (fields, message) => lines.info(fields, message),
    warn: (fields, message) => lines.warn(fields, message),
    error: (fields, message) => lines.error(fields, message),
    fatal: (fields, message) => lines.fatal(fields, message),
    isLevelEnabled: (asked) => lines.isLevelEnabled(asked),
    close: () => writer.close(),
  };
}

/** Writes nothing: for tests and tools. */
export const nullLogger: Logger = {
  trace: ignore,
  debug: ignore,
  info: ignore,
  warn: ignore,
  error: ignore,
  fatal: ignore,
  isLevelEnabled: () => false,
  close: () => Promise.resolve(),
};

const STDOUT = 1;

function ignore(): void {
  // nullLogger writes nothing.
}

interface DescribedError {
  readonly type: string;
  readonly message: string;
  readonly code?: string;
  readonly stack?: string;
  readonly errors?: readonly DescribedError[];
  readonly cause?: DescribedError;
}

const MAX_CAUSES = 5;

/**
 * An error's name, message, code, stack and causes, and no other property: undici's parser errors
 * carry the bytes that they failed on, its response errors the headers.
 */
function describeError(error: unknown, depth = 0): DescribedError {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error) };
  const code = 'code' in error ? String(error.code) : undefined;
  return {
    type: error.name,
    message: error.message,
    ...(code !== undefined && { code }),
    // node:net tries every address of a name: only the inner errors state the cause.
    ...(error instanceof AggregateError && {
      errors: error.errors.slice(0, MAX_CAUSES).map((part) => describeError(part, MAX_CAUSES)),
    }),
    ...(depth === 0 && error.stack !== undefined && { stack: error.stack }),
    ...(error.cause !== undefined &&
      depth < MAX_CAUSES && { cause: describeError(error.cause, depth + 1) }),
  };
}
