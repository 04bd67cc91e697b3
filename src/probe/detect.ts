/** Finds out which protocol an app speaks: opens a session in each that there is a probe for. */
import type { ProbeClient } from './http-client.ts';
import { describeExchange } from './loss.ts';
import { createJupyterProbe } from './jupyter.ts';
import { createMcpProbe } from './mcp.ts';
import { createMcpSseProbe } from './mcp-sse.ts';
import type { Opening, Probe } from './probe.ts';
import { createCookieProbes } from './session-cookie.ts';
import { createSignalRProbe } from './signalr.ts';
import { createSocketIoProbe } from './socket-io.ts';
import { createWebSocketProbe } from './websocket-probe.ts';

export type Detection =
  | { readonly kind: 'found'; readonly probe: Probe }
  /** The app speaks the protocol, but no session was opened: it keeps none, or refused. `why`: a sentence. */
  | { readonly kind: 'stateless' | 'refused'; readonly probe: Probe; readonly why: string }
  | {
      readonly kind: 'unknown';
      readonly attempts: readonly Attempt[];
      /** Where it accepts a WebSocket, such as `/`; undefined: nowhere that was tried. */
      readonly webSocketAt: string | undefined;
    };

interface Attempt {
  /** Such as `POST /mcp`. */
  readonly where: string;
  /** Such as `404 Not Found`. */
  readonly result: string;
}

/** The usual paths, or a path of the user's own for all protocols. */
export function probesFor(path: string | undefined): readonly Probe[] {
  const at = (...usual: readonly string[]): readonly string[] =>
    path === undefined ? usual : [path];
  return [
    ...at('/mcp').map(createMcpProbe),
    ...at('/sse').map(createMcpSseProbe),
    ...at('/socket.io/').map(createSocketIoProbe),
    ...at('/_blazor', '/hub', '/chathub').map(createSignalRProbe),
    ...at('/').map(createJupyterProbe),
    ...(path === undefined ? [createMcpProbe('/')] : []),
    ...createCookieProbes(path ?? '/'),
    createWebSocketProbe(path ?? '/'),
  ];
}

/** A protocol in which a session was opened comes before one that was only recognised. */
export async function detect(client: ProbeClient, probes: readonly Probe[]): Promise<Detection> {
  const attempts = new Map<string, string>();
  let recognised: Detection | undefined;
  let webSocketAt: string | undefined;
  for (const { probe, opening } of await openInEach(client, probes)) {
    if (opening.kind === 'opened') return { kind: 'found', probe };
    if (opening.kind === 'websocket') webSocketAt ??= opening.path;
    recognised ??= recognisedBy(opening, probe);
    if (opening.kind === 'other') attempts.set(probe.where, describeExchange(opening.exchange));
  }
  if (recognised) return recognised;
  const unknown = [...attempts].map(([where, result]) => ({ where, result }));
  return { kind: 'unknown', attempts: unknown, webSocketAt };
}

interface Tried {
  readonly probe: Probe;
  readonly opening: Opening;
}

/**
 * One after the other, until one opens a session. Once the app leaves one without a response the others follow at
 * the same time: each of them may take as long. Every session is closed.
 */
async function openInEach(
  client: ProbeClient,
  probes: readonly Probe[],
): Promise<readonly Tried[]> {
  const openIn = async (probe: Probe): Promise<Tried> => {
    const opening = await probe.open(client);
    if (opening.kind === 'opened') await opening.session.close();
    return { probe, opening };
  };
  const tried: Tried[] = [];
  for (const probe of probes) {
    const latest = await openIn(probe);
    tried.push(latest);
    const { opening } = latest;
    if (opening.kind === 'opened') break;
    if (opening.kind === 'other' && opening.exchange.kind === 'no-response') {
      return [...tried, ...(await Promise.all(probes.slice(tried.length).map(openIn)))];
    }
  }
  return tried;
}

function recognisedBy(opening: Opening, probe: Probe): Detection | undefined {
  switch (opening.kind) {
    case 'stateless':
      return { kind: 'stateless', probe, why: opening.what };
    case 'refused':
      return { kind: 'refused', probe, why: opening.why };
    case 'opened':
    case 'websocket':
    case 'other':
      return undefined;
  }
}
