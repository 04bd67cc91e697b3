/** Wire form of DNS messages (RFC 1035 §4), as far as a name server of one zone needs it. */

export const RECORD_TYPES = { TXT: 16, AAAA: 28 } as const;
export type RecordType = keyof typeof RECORD_TYPES;

export interface Question {
  readonly id: number;
  /** In lower case, without the dot at the end. */
  readonly name: string;
  /** Undefined for types that this server knows nothing of. */
  readonly type: RecordType | undefined;
  /** The question section as it came. */
  readonly section: Buffer;
}

/** An IPv6 address, or a text of any length. */
export type RecordValue = string;

export const RESPONSE_CODES = { ok: 0, nameError: 3 } as const;

const HEADER_BYTES = 12;
const TYPE_AND_CLASS_BYTES = 4;
const MAX_LABEL_BYTES = 63;
const MAX_STRING_BYTES = 255;
const CLASS_IN = 1;
/** QR, AA; RD is copied from nowhere, as nothing here recurses. */
const ANSWER_FLAGS = 0x8400;
/** A pointer to the name of the question, which begins right after the header (§4.1.4). */
const POINTER_TO_QUESTION = 0xc00c;

/** Undefined for what is not a question with one name. */
export function decodeQuestion(message: Buffer): Question | undefined {
  if (message.length < HEADER_BYTES || message.readUInt16BE(4) !== 1) return undefined;
  const isResponse = (message.readUInt16BE(2) & 0x8000) !== 0;
  const name = isResponse ? undefined : decodeName(message, HEADER_BYTES);
  if (!name || name.end + TYPE_AND_CLASS_BYTES > message.length) return undefined;
  const code = message.readUInt16BE(name.end);
  return {
    id: message.readUInt16BE(0),
    name: name.text.toLowerCase(),
    type: code === RECORD_TYPES.AAAA ? 'AAAA' : code === RECORD_TYPES.TXT ? 'TXT' : undefined,
    section: message.subarray(HEADER_BYTES, name.end + TYPE_AND_CLASS_BYTES),
  };
}

export function encodeAnswer(
  question: Question,
  responseCode: number,
  values: readonly RecordValue[],
  ttlSeconds: number,
): Buffer {
  const { type } = question;
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16BE(question.id, 0);
  header.writeUInt16BE(ANSWER_FLAGS | responseCode, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(type ? values.length : 0, 6);
  const records = type ? values.map((value) => encodeRecord(type, value, ttlSeconds)) : [];
  return Buffer.concat([header, question.section, ...records]);
}

function encodeRecord(type: RecordType, value: RecordValue, ttlSeconds: number): Buffer {
  const content = type === 'TXT' ? encodeText(value) : encodeAddress(value);
  const head = Buffer.alloc(12);
  head.writeUInt16BE(POINTER_TO_QUESTION, 0);
  head.writeUInt16BE(RECORD_TYPES[type], 2);
  head.writeUInt16BE(CLASS_IN, 4);
  head.writeUInt32BE(ttlSeconds, 6);
  head.writeUInt16BE(content.length, 10);
  return Buffer.concat([head, content]);
}

/** One record, of as many strings as the text needs. */
function encodeText(text: string): Buffer {
  const bytes = Buffer.from(text);
  const strings: Buffer[] = [];
  for (let start = 0; start === 0 || start < bytes.length; start += MAX_STRING_BYTES) {
    const part = bytes.subarray(start, start + MAX_STRING_BYTES);
    strings.push(Buffer.from([part.length]), part);
  }
  return Buffer.concat(strings);
}

/** Of the forms of IPv6 addresses just the one that the simulated network has. */
function encodeAddress(address: string): Buffer {
  const mapped = /^::ffff:(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address);
  if (!mapped) throw new TypeError(`not an IPv4-mapped IPv6 address: ${address}`);
  return Buffer.from([...Array<number>(10).fill(0), 0xff, 0xff, ...mapped.slice(1).map(Number)]);
}

function decodeName(message: Buffer, start: number): { text: string; end: number } | undefined {
  const labels: string[] = [];
  let at = start;
  for (;;) {
    const length = message[at];
    // Compression (a length over 63) makes no sense in the first name of a message.
    if (length === undefined || length > MAX_LABEL_BYTES) return undefined;
    at += 1;
    if (length === 0) return { text: labels.join('.'), end: at };
    labels.push(message.toString('latin1', at, at + length));
    at += length;
  }
}
