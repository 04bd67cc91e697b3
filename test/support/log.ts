/** A log that is kept in memory, without the lines of requests. */
import { REQUEST_MESSAGE } from '../../src/proxy/request-log.ts';
import { nullLogger, type Logger, type LogLevel } from '../../src/observability/log.ts';

export interface Line {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: object;
}

export interface MemoryLog {
  readonly logger: Logger;
  readonly lines: readonly Line[];
  /** The messages of one level, in order. */
  messages(level: LogLevel): string[];
}

export function createMemoryLog(
  onRequest?: (fields: object) => void,
  least: 'info' | 'debug' = 'info',
): MemoryLog {
  const lines: Line[] = [];
  const keep =
    (level: LogLevel) =>
    (fields: object, message: string): void =>
      void lines.push({ level, fields, message });
  const logger: Logger = {
    ...nullLogger,
    info: (fields, message) => {
      if (message === REQUEST_MESSAGE) onRequest?.(fields);
      else keep('info')(fields, message);
    },
    debug: keep('debug'),
    warn: keep('warn'),
    error: keep('error'),
    fatal: keep('fatal'),
    isLevelEnabled: (level) => least === 'debug' || (level !== 'debug' && level !== 'trace'),
  };
  return {
    logger,
    lines,
    messages: (level) => lines.filter((line) => line.level === level).map(({ message }) => message),
  };
}
