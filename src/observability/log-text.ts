/** A line of the log for people: time, level, message, fields. */

/** Every other value is written as JSON, so a line stays one line. */
const PLAIN = /^[\w./:@~%+*-]+$/;

/** `at`: ms since the epoch. Fields that are undefined are left out. */
export function formatTextLine(at: number, level: string, fields: object, message: string): string {
  const time = new Date(at).toISOString().slice(11, 23);
  const named = Object.entries(fields as Record<string, unknown>)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ` ${name}=${formatValue(value)}`);
  return `${time} ${level.toUpperCase().padEnd(5)} ${message}${named.join('')}\n`;
}

/** What JSON leaves as it is, and a terminal may take for a command or a new line. */
const CONTROL = /[\x7f-\x9f\u2028\u2029]/g;

function formatValue(value: unknown): string {
  if (typeof value === 'string' && PLAIN.test(value)) return value;
  try {
    return JSON.stringify(value).replace(CONTROL, (character) => {
      return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
    });
  } catch {
    // Circular, or too large a number.
    return String(value);
  }
}

export function shorten(text: string, maxCharacters: number): string {
  return text.length > maxCharacters ? `${text.slice(0, maxCharacters)}…` : text;
}
