/**
 * Log lines as JSON (pino) or text, written in batches off the request path. Nothing secret may be logged:
 * sessions are named by their key, paths come without their query, errors without extra properties.
 */
import { isatty } from 'node:tty';
import { pino, type Logger as Pino } from 'pino';
import type { MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import { createLineWriter, type LineWriter } from './line-writer.ts';
import { formatTextLine } from './log-text.ts';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/**
 * - `json`: levels as pino's numbers, the time in ms since the epoch.
 * - `json-names`: levels by their names, the time in ISO 8601.
 * - `text`: for people.
 */
export const LOG_FORMATS = ['json', 'json-names', 'text'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

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

interface LoggerOptions {
  readonly level: LogLevel;
  readonly machine: MachineId;
  readonly clock: Clock;
  /** Undefined: `text` on a terminal, else `json`. */
  readonly format?: LogFormat | undefined;
  /** Where the lines go, standard output by default. It stays open. */
  readonly fd?: number;
}

export function createLogger(options: LoggerOptions): Logger {
  const { clock, fd = STDOUT } = options;
  const { format = isatty(fd) ? 'text' : 'json' } = options;
  const writer = createLineWriter({ fd, clock });
  const lines = format === 'text' ? textLines(options, writer) : jsonLines(options, format, writer);
  return { ...lines, close: () => writer.close() };
}

type Lines = Omit<Logger, 'close'>;

function jsonLines(
  { level, machine, clock }: LoggerOptions,
  format: 'json' | 'json-names',
  writer: LineWriter,
): Lines {
  const serializers = { err: (error: unknown) => describeError(error) };
  const options = { level, base: { machine }, serializers };
  const lines: Pino =
    format === 'json'
      ? pino({ ...options, timestamp: () => `,"time":${clock.now()}` }, writer)
      : pino(
          {
            ...options,
            timestamp: () => `,"time":"${new Date(clock.now()).toISOString()}"`,
            formatters: { level: (name) => ({ level: name }) },
          },
          writer,
        );
  return {
    trace: (fields, message) => lines.trace(fields, message),
    debug: (fields, message) => lines.debug(fields, message),
    info: (fields, message) => lines.info(fields, message),
    warn: (fields, message) => lines.warn(fields, message),
    error: (fields, message) => lines.error(fields, message),
    fatal: (fields, message) => lines.fatal(fields, message),
    isLevelEnabled: (asked) => lines.isLevelEnabled(asked),
  };
}

/** Without the Machine: a terminal shows one. */
function textLines({ level, clock }: LoggerOptions, writer: LineWriter): Lines {
  const least = LOG_LEVELS.indexOf(level);
  const isLevelEnabled = (asked: LogLevel): boolean => LOG_LEVELS.indexOf(asked) >= least;
  const at = (asked: LogLevel): WriteLine =>
    isLevelEnabled(asked)
      ? (fields, message) =>
          writer.write(formatTextLine(clock.now(), asked, described(fields), message))
      : ignore;
  return {
    ...{ trace: at('trace'), debug: at('debug'), info: at('info') },
    ...{ warn: at('warn'), error: at('error'), fatal: at('fatal'), isLevelEnabled },
  };
}

function described(fields: object): object {
  return 'err' in fields ? { ...fields, err: describeError(fields.err) } : fields;
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
export function describeError(error: unknown, depth = 0): DescribedError {
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

/** `report` receives an item, and the number of unreported ones since the last. */
export function createRateLimitedReport<Item>(
  clock: Pick<Clock, 'monotonicMs'>,
  intervalMs: number,
  report: (item: Item, unreported: number) => void,
): (item: Item) => void {
  let reportedAt = -Infinity;
  let unreported = 0;
  return (item) => {
    const now = clock.monotonicMs();
    if (now - reportedAt < intervalMs) {
      unreported += 1;
      return;
    }
    report(item, unreported);
    reportedAt = now;
    unreported = 0;
  };
}
