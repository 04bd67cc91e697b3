/** Compares the requests that the engine reads and forwards with those that Node's server reads. */
import { passedFields } from '../../../src/http/head-text.ts';
import { type ParsedRequestHead, formatRequest } from '../../../src/http/request-head.ts';
import {
  fieldsOf,
  methodForNode,
  requestForNode,
  targetForNode,
  bodyForNode,
} from './as-node-takes.ts';
import type { Chance } from './chance.ts';
import type { Finding } from './campaign.ts';
import { TRAILER_OPTIONS, type ReadRequest } from './request-reader.ts';
import type { FedConnection, NodeServer, SeenRequest } from './node-server.ts';

/**
 * Feeds Node's server the same bytes. Each request must be complete for it at exactly the same byte as
 * here.
 */
export function findOtherReading(
  server: NodeServer,
  bytes: Buffer,
  requests: readonly ReadRequest[],
): Finding {
  let connection = server.open();
  let start = 0;
  let before = 0;
  for (const [index, request] of requests.entries()) {
    const head = bytes.toString('latin1', start, request.headEnd);
    const body = bytes.toString('latin1', request.headEnd, request.end);
    const piece = requestForNode(head) + bodyForNode(body, request.passed);
    const finding = feedOne(connection, piece, before, request.isComplete);
    const seen = connection.seen.requests[before];
    const other = finding ?? (seen ? differenceOf(request, seen) : 'Node sees no request');
    if (other !== undefined) {
      connection.close();
      return `${other}: request ${index}, ${describe(request, connection)}`;
    }
    start = request.end;
    before += 1;
    if (!isUpgrade(request.head)) continue;
    // llhttp stops reading after it.
    connection.close();
    connection = server.open();
    before = 0;
  }
  connection.close();
  return undefined;
}

/** As llhttp defines it. */
function isUpgrade({ text }: ParsedRequestHead): boolean {
  return /^upgrade[ \t]*:/im.test(text);
}

/** Feeds the bytes of one request here, and reports how Node reads them. */
function feedOne(
  connection: FedConnection,
  piece: string,
  before: number,
  isComplete: boolean,
): Finding {
  const bytes = Buffer.from(piece, 'latin1');
  const { seen } = connection;
  const countComplete = (): number => seen.requests.filter((request) => request.isComplete).length;
  if (!isComplete) {
    connection.feed(bytes);
    // Node may reject earlier: here trailers are checked once they are complete.
    return countComplete() > before ? 'complete for Node alone' : undefined;
  }
  connection.feed(bytes.subarray(0, -1));
  if (countComplete() > before) return 'it ends earlier for Node';
  connection.feed(bytes.subarray(-1));
  if (seen.error !== undefined) return 'Node rejects it';
  return countComplete() === before + 1 ? undefined : 'it is not complete for Node';
}

function differenceOf({ head, body }: ReadRequest, seen: SeenRequest): Finding {
  if (seen.method !== methodForNode(head.method)) return 'another method';
  if (seen.target !== targetForNode(head.text.split(' ', 2)[1] ?? '')) return 'another target';
  if (seen.version !== `1.${head.minorVersion}`) return 'another version';
  if (!isSame(fieldsOf(head.text), seen.rawHeaders)) return 'other fields';
  return seen.body === body ? undefined : 'another body';
}

/**
 * Feeds Node's server the forwarded bytes over one connection, followed by one more request. Each must
 * be exactly one request.
 */
export function findOtherForward(
  server: NodeServer,
  requests: readonly ReadRequest[],
  chance: Chance,
): Finding {
  for (const [index, request] of requests.entries()) {
    const connection = server.open();
    const finding = forwardOne(connection, request, chance);
    connection.close();
    if (finding !== undefined) {
      return `${finding} when sent on: request ${index}, ${describe(request, connection)}`;
    }
  }
  return undefined;
}

function forwardOne(connection: FedConnection, request: ReadRequest, chance: Chance): Finding {
  const { head } = request;
  const changes = {
    target: head.target,
    rawHeaders: chance.happens(0.3) ? [...head.rawHeaders] : head.rawHeaders,
    added: head.host === undefined ? 'Host: added\r\n' : '',
    asksForUpgrade: head.upgrade !== undefined && chance.happens(0.7),
  };
  const text = formatRequest(head, changes);
  const piece = requestForNode(text + request.passed);
  const finding = feedOne(connection, piece, 0, request.isComplete);
  if (finding !== undefined) return finding;
  const [seen] = connection.seen.requests;
  if (!seen) return 'Node sees no request';
  const other = forwardDifferenceOf(request, seen, changes.asksForUpgrade);
  if (other !== undefined || !request.isComplete || changes.asksForUpgrade) return other;
  connection.feed(Buffer.from(MARKER));
  const { requests, error } = connection.seen;
  const isNext = requests.length === 2 && requests[1]?.target === '/marker' && error === undefined;
  return isNext ? undefined : 'what follows is not the next request';
}

const MARKER = 'GET /marker HTTP/1.1\r\nHost: m\r\n\r\n';

function forwardDifferenceOf(
  { head, body, isComplete }: ReadRequest,
  seen: SeenRequest,
  asksForUpgrade: boolean,
): Finding {
  if (seen.method !== methodForNode(head.method)) return 'another method';
  if (seen.target !== targetForNode(head.target)) return 'another target';
  if (seen.version !== '1.1') return 'another version';
  if (seen.body !== body) return 'another body';
  const expected = [
    ...passedOf(head),
    ...(head.host === undefined ? ['Host', 'added'] : []),
    ...(head.isChunked ? ['Transfer-Encoding', 'chunked'] : []),
    ...(asksForUpgrade ? ['Connection', 'Upgrade', 'Upgrade', head.upgrade ?? ''] : []),
  ];
  if (!isSame(expected, seen.rawHeaders)) return `other fields than ${JSON.stringify(expected)}`;
  if (!isSame(fieldsOf(`\r\n${passedFields(head)}\r\n`), head.rawHeaders))
    return 'other fields cut';
  return isComplete ? findForbiddenTrailer(seen.rawTrailers) : undefined;
}

/** Hop-by-hop fields (RFC 9110 §7.6.1). */
const HOP_BY_HOP =
  /^(?:connection|keep-alive|proxy-connection|te|transfer-encoding|upgrade|expect)$/;
/** Fields that a client can't remove. */
const OF_THE_EDGE = /^(?:fly-|x-forwarded-|x-fly-affinity-|forwarded$|via$)/;

/** The fields to pass on, by a second implementation of the rules. */
function passedOf({ text }: ParsedRequestHead): string[] {
  const fields = fieldsOf(text);
  const named = new Set<string>();
  forEachField(fields, (name, value) => {
    if (name !== 'connection') return;
    // `trim()` removes more than spaces and tabs.
    for (const option of value.split(',')) {
      named.add(option.replace(/^[ \t]+|[ \t]+$/g, '').toLowerCase());
    }
  });
  const passed: string[] = [];
  forEachField(fields, (name, value, asSent) => {
    if (HOP_BY_HOP.test(name) || (named.has(name) && !OF_THE_EDGE.test(name))) return;
    passed.push(asSent, value);
  });
  return passed;
}

function forEachField(
  fields: readonly string[],
  onField: (lowerName: string, value: string, name: string) => void,
): void {
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const name = fields[i] ?? '';
    onField(name.toLowerCase(), fields[i + 1] ?? '', name);
  }
}

const FORBIDDEN_TRAILER =
  /^(?:content-(?:length|type|encoding|range)$|transfer-encoding$|host$|connection$|upgrade$|cookie$|x-forwarded-|te$|trailer$|expect$)/;

export function findForbiddenTrailer(rawTrailers: readonly string[]): Finding {
  let finding: Finding;
  forEachField(rawTrailers, (name) => {
    if (FORBIDDEN_TRAILER.test(name) || TRAILER_OPTIONS.forbidden.has(name))
      finding = `trailer ${name}`;
  });
  return finding;
}

export function isSame(some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every((text, index) => text === others[index]);
}

function describe({ head, ...request }: ReadRequest, { seen }: FedConnection): string {
  const { method, target, minorVersion, rawHeaders } = head;
  return `here ${JSON.stringify({ method, target, minorVersion, rawHeaders, ...request })}, Node ${JSON.stringify(seen)}`;
}
