/** A local response: the sidecar's own. */
import { formatFields } from './head-text.ts';
import { STATUS_CODES } from './node-http.ts';

export interface LocalResponse {
  readonly status: number;
  /** Name, value, name, value; without those of framing. */
  readonly headers: readonly string[];
  readonly body: string;
}

/** Its head, without the fields of the connection and without the empty line. */
export function formatLocalHead({ status, headers, body }: LocalResponse): string {
  const statusLine = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`;
  return `${statusLine}${formatFields(headers)}Content-Length: ${Buffer.byteLength(body)}\r\n`;
}

/** One character a byte, as everything else that is written. */
export function latin1OfUtf8(text: string): string {
  return Buffer.from(text).toString('latin1');
}
