/** A collector of traces: takes OTLP over HTTP as OpenTelemetry's own does, and decodes it. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { TestContext } from 'node:test';
import { until } from '../fleet/support.ts';
import { serve } from './sidecar.ts';

export interface CollectedSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** Empty: it is the first of its trace. */
  readonly parentId: string;
  readonly name: string;
  readonly kind: number;
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: Readonly<Record<string, string | number>>;
  /** 2: an error. */
  readonly status: number;
  readonly resource: Readonly<Record<string, string | number>>;
}

export interface Collector {
  /** For `OTEL_EXPORTER_OTLP_ENDPOINT`. */
  readonly url: string;
  readonly spans: readonly CollectedSpan[];
  /** All that it has received. */
  readonly bytes: () => Buffer;
  readonly requests: readonly Pick<IncomingMessage, 'url' | 'headers'>[];
  /** Spans of this Machine, once there are so many. */
  spansOf(machine: string, count?: number): Promise<readonly CollectedSpan[]>;
}

type Respond = (response: ServerResponse) => void;

export async function startCollector(
  t: TestContext,
  respond: Respond = (response) => response.end(),
): Promise<Collector> {
  const spans: CollectedSpan[] = [];
  const bodies: Buffer[] = [];
  const requests: Pick<IncomingMessage, 'url' | 'headers'>[] = [];
  const server = createServer((request, response) => {
    const { url, headers } = request;
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      requests.push({ url, headers });
      const body = Buffer.concat(chunks);
      bodies.push(body);
      spans.push(...spansIn(body));
      respond(response);
    });
  });
  const port = await serve(t, server);
  return {
    url: `http://127.0.0.1:${port}`,
    spans,
    bytes: () => Buffer.concat(bodies),
    requests,
    spansOf: async (machine, count = 1) => {
      const own = () => spans.filter(({ resource }) => resource['service.instance.id'] === machine);
      await until(() => own().length >= count);
      return own();
    },
  };
}

/* Protocol Buffers, as far as opentelemetry/proto/collector/trace/v1 has it. */

type Fields = ReadonlyMap<number, readonly (bigint | Buffer)[]>;

const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5];

function fieldsOf(bytes: Buffer): Fields {
  const fields = new Map<number, (bigint | Buffer)[]>();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes.readUInt8(at);
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const valueOf = (wireType: number): bigint | Buffer => {
    if (wireType === VARINT) return varint();
    const length = wireType === BYTES ? Number(varint()) : wireType === FIXED64 ? 8 : 4;
    if (![FIXED64, BYTES, FIXED32].includes(wireType)) throw new Error(`wire type ${wireType}`);
    const start = at;
    at += length;
    if (wireType === BYTES) return bytes.subarray(start, at);
    return wireType === FIXED64 ? bytes.readBigUInt64LE(start) : BigInt(bytes.readUInt32LE(start));
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const values = fields.get(tag >> 3) ?? [];
    values.push(valueOf(tag & 7));
    fields.set(tag >> 3, values);
  }
  return fields;
}

function messages(fields: Fields, number: number): Fields[] {
  return buffers(fields, number).map(fieldsOf);
}

function buffers(fields: Fields, number: number): Buffer[] {
  return (fields.get(number) ?? []).filter((value) => Buffer.isBuffer(value));
}

function text(fields: Fields, number: number, encoding: 'utf8' | 'hex' = 'utf8'): string {
  return buffers(fields, number)[0]?.toString(encoding) ?? '';
}

function integer(fields: Fields, number: number): bigint {
  const [value = 0n] = fields.get(number) ?? [];
  return Buffer.isBuffer(value) ? 0n : value;
}

function spansIn(body: Buffer): CollectedSpan[] {
  return messages(fieldsOf(body), 1).flatMap((resourceSpans) => {
    const resource = attributesIn(messages(resourceSpans, 1).flatMap((each) => messages(each, 1)));
    const scopes = messages(resourceSpans, 2);
    return scopes.flatMap((scope) => messages(scope, 2).map((span) => spanFrom(span, resource)));
  });
}

function spanFrom(span: Fields, resource: CollectedSpan['resource']): CollectedSpan {
  const [status] = messages(span, 15);
  return {
    traceId: text(span, 1, 'hex'),
    spanId: text(span, 2, 'hex'),
    parentId: text(span, 4, 'hex'),
    name: text(span, 5),
    kind: Number(integer(span, 6)),
    startNs: integer(span, 7),
    endNs: integer(span, 8),
    attributes: attributesIn(messages(span, 9)),
    status: status ? Number(integer(status, 3)) : 0,
    resource,
  };
}

function attributesIn(pairs: readonly Fields[]): Record<string, string | number> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const [value] = messages(pair, 2);
      const isText = value?.has(1) === true;
      return [text(pair, 1), isText ? text(value, 1) : Number(value ? integer(value, 3) : 0n)];
    }),
  );
}
