/** A session cookie of a web framework, as a browser with an empty jar gets it. */
import { splitOwnerHint } from '../protocols/owner-hint.ts';
import { PRESETS } from '../protocols/presets.ts';
import { createCookieJar, cookiesOf } from './cookies.ts';
import type { Exchange, ProbeClient, ProbeRequest } from './http-client.ts';
import { lossOf, shownKeyOf } from './loss.ts';
import type { Call, Loss, Opening, Probe, ProbeSession } from './probe.ts';

/** The names of session cookies, each with its preset. */
const SESSION_COOKIES: ReadonlyMap<string, string> = new Map(
  Object.entries(PRESETS).flatMap(([preset, { protocols }]) =>
    protocols
      .flatMap(({ discoveries }) => discoveries)
      .flatMap((discovery) => (discovery.from === 'set-cookie' ? [discovery.name] : []))
      .map((name) => [name, preset] as const),
  ),
);

export function createCookieProbes(path: string): readonly Probe[] {
  return [...new Set(SESSION_COOKIES.values())].map((preset) => createCookieProbe(preset, path));
}

export function createCookieProbe(preset: string, path: string): Probe {
  return { preset, where: `GET ${path}`, open: (client) => open(client, preset, path) };
}

async function open(client: ProbeClient, preset: string, path: string): Promise<Opening> {
  const request = { method: 'GET', target: path };
  const opened = await client.send(request);
  const name = sessionCookieOf(opened, preset);
  if (name === undefined) return { kind: 'other', exchange: opened };
  return { kind: 'opened', session: openCookieSession(client, request, { name, opened }) };
}

/** The first session cookie that the response sets, of that preset or of any. */
export function sessionCookieOf(exchange: Exchange, preset?: string): string | undefined {
  const isWanted = (found: string | undefined): boolean =>
    preset === undefined ? found !== undefined : found === preset;
  return cookiesOf(exchange).find(([name]) => isWanted(SESSION_COOKIES.get(name)))?.[0];
}

function openCookieSession(
  client: ProbeClient,
  request: ProbeRequest,
  { name, opened }: { readonly name: string; readonly opened: Exchange },
): ProbeSession {
  const jar = createCookieJar();
  jar.keep(opened);
  const id = jar.get(name) ?? '';
  const call = async (): Promise<Call> => {
    const cookie = jar.header() ?? '';
    const before = jar.get(name);
    const exchange = await client.send({ ...request, headers: { ...request.headers, cookie } });
    jar.keep(exchange);
    const loss = newSessionLoss(name, before, jar.get(name)) ?? lossOf(exchange, id);
    return { exchange, loss };
  };
  return { key: shownKeyOf(id), opened, call, close: () => Promise.resolve() };
}

/** An app that does not know the session gives the client another one. */
export function newSessionLoss(
  name: string,
  before: string | undefined,
  after: string | undefined,
): Loss | undefined {
  if (withoutHint(before) === withoutHint(after)) return undefined;
  return { how: 'new-session', why: `the app set a new ${name}` };
}

/** The sidecar may add an owner hint. */
function withoutHint(value = ''): string {
  return splitOwnerHint(value)?.id ?? value;
}
