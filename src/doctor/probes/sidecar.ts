/** Looks at the sidecar that runs here, if one does: what its readiness says. */
import type { Clock } from '../../clock.ts';
import type { Config } from '../../config/config.ts';
import type { SidecarFacts } from '../sidecar.ts';
import { ask } from './http.ts';

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
