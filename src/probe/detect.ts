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

export type Detection =
  | { readonly kind: 'found'; readonly probe: Probe }
  /** The app speaks the protocol, but no session was opened: it keeps none, or refused. `why`: a sentence. */
  | { readonly kind: 'stateless' | 'refused'; readonly probe: Probe; readonly why: string }
  | { readonly kind: 'unknown'; readonly attempts: readonly Attempt[] };

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
  ];
}

/** A protocol in which a session was opened comes before one that was only recognised. */
export async function detect(client: ProbeClient, probes: readonly Probe[]): Promise<Detection> {
  const attempts = new Map<string, string>();
  let recognised: Detection | undefined;
  for (const probe of probes) {
    const opening = await probe.open(client);
    if (opening.kind === 'opened') {
      await opening.session.close();
      return { kind: 'found', probe };
    }
    recognised ??= recognisedBy(opening, probe);
    if (opening.kind === 'other') attempts.set(probe.where, describeExchange(opening.exchange));
  }
  const unknown = [...attempts].map(([where, result]) => ({ where, result }));
  return recognised ?? { kind: 'unknown', attempts: unknown };
}

function recognisedBy(opening: Opening, probe: Probe): Detection | undefined {
  switch (opening.kind) {
    case 'stateless':
      return { kind: 'stateless', probe, why: opening.what };
    case 'refused':
      return { kind: 'refused', probe, why: opening.why };
    case 'opened':
    case 'other':
      return undefined;
  }
}
