/** The sidecar that runs beside doctor, as its readiness tells. */
import { error, note, ok, warning, type Finding } from './finding.ts';

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
