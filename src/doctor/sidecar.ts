/** The sidecar of this Machine: whether it runs, and what its readiness says. */
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { ask } from './probe.ts';
import { type Finding, error, note, ok, warning } from './report.ts';

export type SidecarFacts =
  | { readonly kind: 'port-unknown' }
  | { readonly kind: 'not-there' }
  | { readonly kind: 'silent'; readonly code: string }
  | { readonly kind: 'stranger'; readonly status: number }
  | {
      readonly kind: 'answers';
      readonly isReady: boolean;
      readonly reason: string | undefined;
      readonly store: { readonly state: string | undefined; readonly reason: string | undefined };
      readonly fleet: string | undefined;
      /** How the app fares in its eyes. */
      readonly upstream: {
        readonly state: string | undefined;
        readonly reason: string | undefined;
      };
    };

export function checkSidecar(facts: SidecarFacts, adminPort: number): Finding[] {
  switch (facts.kind) {
    case 'port-unknown':
      return [
        note('Whether a sidecar runs can not be told.', 'ADMIN_PORT is 0: it took a free port.'),
      ];
    case 'not-there':
      return [
        warning(
          `No sidecar runs here: nothing listens on ADMIN_PORT (${adminPort}).`,
          'Fly Proxy reaches nobody on this Machine.',
          'fly-affinity serve, or fly-affinity run -- CMD ARGS',
        ),
      ];
    case 'silent':
      return [
        error(
          `What listens on ADMIN_PORT (${adminPort}) does not answer (${facts.code}).`,
          'A sidecar that hangs serves no requests either.',
          'restart the Machine, and look at its log',
        ),
      ];
    case 'stranger':
      return [
        error(
          `What answers on ADMIN_PORT (${adminPort}) is no sidecar (${facts.status}).`,
          'The sidecar can not listen there, and does not start.',
          'ADMIN_PORT on a port that is free',
        ),
      ];
    case 'answers':
      return judgeReadiness(facts);
  }
}

function judgeReadiness(facts: Extract<SidecarFacts, { kind: 'answers' }>): Finding[] {
  const { isReady, reason, store, fleet, upstream } = facts;
  const readiness = isReady
    ? ok('The sidecar runs, and is ready.')
    : warning(
        `The sidecar is not ready (${reason ?? 'it does not say why'}).`,
        'It serves the sessions that it has, and sends new ones elsewhere.',
      );
  const findings: Finding[] = [readiness];
  if (store.state !== undefined && store.state !== 'healthy') {
    findings.push(
      warning(
        `Its store is ${store.state}${store.reason === undefined ? '' : `: ${store.reason}`}.`,
        'Memory stands in: what it takes meanwhile may be lost with a restart.',
      ),
    );
  }
  if (upstream.state === 'down') {
    findings.push(
      warning(
        `The app is down, in its eyes${upstream.reason === undefined ? '' : `: ${upstream.reason}`}.`,
        'New sessions go to other Machines until it is back.',
        'look at the app, and at UPSTREAM_CHECK_PATH',
      ),
    );
  }
  if (fleet === 'failing') {
    findings.push(
      warning(
        'It can not read the list of Machines.',
        'It goes by the last one, and gives no owner up as gone.',
      ),
    );
  }
  return findings;
}

/** Never rejects. */
export async function probeSidecar(
  { host, adminPort }: Pick<Config, 'host' | 'adminPort'>,
  clock: Clock,
): Promise<SidecarFacts> {
  if (adminPort === 0) return { kind: 'port-unknown' };
  const heard = await ask({ host: dialableHost(host), port: adminPort, path: '/readyz' }, clock);
  if (heard.kind === 'failed') {
    const { code } = heard;
    return code === 'ECONNREFUSED' ? { kind: 'not-there' } : { kind: 'silent', code };
  }
  const said = parseRecord(heard.body);
  const isReadiness = heard.status === 200 || heard.status === 503;
  if (!isReadiness || typeof said.ready !== 'boolean') {
    return { kind: 'stranger', status: heard.status };
  }
  return {
    kind: 'answers',
    isReady: said.ready,
    reason: textIn(said.reason),
    store: conditionIn(said.store),
    fleet: textIn(recordIn(said.fleet).kind),
    upstream: conditionIn(said.upstream),
  };
}

/** Who listens at every address does so at this one. */
function dialableHost(host: string): string {
  return host === '::' || host === '0.0.0.0' ? '127.0.0.1' : host;
}

type Fields = Readonly<Record<string, unknown>>;

function parseRecord(text: string): Fields {
  try {
    return recordIn(JSON.parse(text));
  } catch {
    // Something else answers, which is what the caller says then.
    return {};
  }
}

function recordIn(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}

function conditionIn(value: unknown): Record<'state' | 'reason', string | undefined> {
  const { state, reason } = recordIn(value);
  return { state: textIn(state), reason: textIn(reason) };
}

/** It goes to a terminal: what a sidecar would not say is left out. */
function textIn(value: unknown): string | undefined {
  return typeof value === 'string' && /^[\x20-\x7e]{1,500}$/.test(value) ? value : undefined;
}
