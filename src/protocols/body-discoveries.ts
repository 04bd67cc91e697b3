/** Which answers teach by their bodies, and the tap that looks at each. */
import { createBodyInspector, type BodyInspector } from './body-inspector.ts';
import { createSseEndpointInspector } from './sse-endpoint-discovery.ts';
import type { RequestIds } from './request-ids.ts';
import { createSseMessageInspector } from './sse-message-discovery.ts';
import type { Discovery, Protocol } from './protocol.ts';
import { headerIncludes, type RequestHead, type ResponseHead } from './heads.ts';
import type { MachineId } from '../session.ts';

/** One place in bodies where a protocol's ids are. */
export interface BodyDiscoverer {
  /** Whether the answer to this request may teach. */
  mayAnswer(request: RequestHead, found: RequestIds): boolean;
  /** Whether it is worth to ask for that answer uncompressed: a tap can't read compressed bytes. */
  asksPlain(request: RequestHead): boolean;
  /** A tap for this answer, if its body may teach. */
  open(response: ResponseHead): OpenedInspector | undefined;
}

export interface OpenedInspector {
  readonly inspector: BodyInspector;
  /** What goes out is longer than what came, by a hint. */
  readonly isLonger: boolean;
}

const EVENT_STREAM = 'text/event-stream';
/** What is read of requests, in lower case. */
export const STREAM_HEADER = 'accept';

/** `hint`: the Machine whose hint new ids go out with, if any. */
export function createBodyDiscoverers(
  protocols: readonly Protocol[],
  hint: MachineId | undefined,
): readonly BodyDiscoverer[] {
  return protocols.flatMap((protocol) =>
    protocol.discoveries.flatMap((source) => createBodyDiscoverer(protocol, source, hint) ?? []),
  );
}

function createBodyDiscoverer(
  protocol: Protocol,
  source: Discovery,
  hint: MachineId | undefined,
): BodyDiscoverer | undefined {
  switch (source.from) {
    case 'header':
    case 'set-cookie':
      return undefined;
    case 'sse-endpoint':
      return {
        mayAnswer: mayOpenStream,
        asksPlain: ({ rawHeaders }) => headerIncludes(rawHeaders, STREAM_HEADER, EVENT_STREAM),
        open: (response) =>
          isReadable(response, [EVENT_STREAM])
            ? {
                inspector: createSseEndpointInspector({ protocol, names: source.names, hint }),
                isLonger: hint !== undefined,
              }
            : undefined,
      };
    case 'body':
      return {
        mayAnswer: (request, found) => !isWithin(protocol, found) && source.mayAnswer(request),
        asksPlain: () => true,
        open: (response) =>
          isReadable(response, source.contentTypes)
            ? { inspector: createBodyInspector(protocol, source), isLonger: false }
            : undefined,
      };
    case 'sse-message':
      return {
        mayAnswer: (request, found) => !isWithin(protocol, found) && source.mayAnswer(request),
        asksPlain: () => true,
        open: (response) =>
          isReadable(response, [EVENT_STREAM])
            ? { inspector: createSseMessageInspector(protocol, source), isLonger: false }
            : undefined,
      };
  }
}

/** A session is not begun within one of its own kind. */
function isWithin(protocol: Protocol, found: RequestIds): boolean {
  return found.kind === 'found' && found.protocol.name === protocol.name;
}

/**
 * The stream of a request that names an MCP session opens none. An id of another protocol, a cookie
 * say, does not count: an MCP session may begin within that one.
 */
function mayOpenStream(request: RequestHead, found: RequestIds): boolean {
  const namesMcpSession = found.kind === 'found' && found.protocol.isMcp;
  return request.method === 'GET' && !namesMcpSession;
}

/** An app that compresses what was asked for plain is left alone. */
function isReadable(
  { statusCode, rawHeaders }: ResponseHead,
  contentTypes: readonly string[],
): boolean {
  if (statusCode < 200 || statusCode >= 300) return false;
  const isOfType = contentTypes.some((type) => headerIncludes(rawHeaders, 'content-type', type));
  if (!isOfType) return false;
  const isEncoded = headerIncludes(rawHeaders, 'content-encoding', '');
  return !isEncoded || headerIncludes(rawHeaders, 'content-encoding', 'identity');
}
