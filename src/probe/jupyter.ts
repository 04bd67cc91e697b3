/** Jupyter Server: a kernel is the session, and its id is in the path. */
import { asObject, asText, parseJson } from '../json.ts';
import type { ProbeClient } from './http-client.ts';
import { lossOf, describeExchange, shownKeyOf } from './loss.ts';
import type { Opening, Probe } from './probe.ts';

const KERNELS = '/api/kernels';

/** `path`: the base URL of the server, such as `/user/me`. */
export function createJupyterProbe(path: string): Probe {
  const kernels = path.replace(/\/$/, '') + KERNELS;
  return { preset: 'jupyter', where: `POST ${kernels}`, open: (client) => open(client, kernels) };
}

async function open(client: ProbeClient, kernels: string): Promise<Opening> {
  const headers = { 'content-type': 'application/json' };
  const exchange = await client.send({ method: 'POST', target: kernels, headers, body: '{}' });
  const json = exchange.kind === 'response' ? asObject(parseJson(exchange.body)) : undefined;
  const id = asText(json?.id);
  if (id === undefined || json?.execution_state === undefined) {
    // Its own words: "Forbidden", and for a token "'_xsrf' argument missing from POST".
    const isJupyter = asText(json?.message) !== undefined && 'reason' in (json ?? {});
    if (!isJupyter || (exchange.kind === 'response' && exchange.status === 404)) {
      return { kind: 'other', exchange };
    }
    const why = `it answers ${describeExchange(exchange)}: add --header "Authorization: token ..."`;
    return { kind: 'refused', why, exchange };
  }
  const target = `${kernels}/${encodeURIComponent(id)}`;
  return {
    kind: 'opened',
    session: {
      key: shownKeyOf(id),
      opened: exchange,
      call: async () => {
        const called = await client.send({ method: 'GET', target });
        return { exchange: called, loss: lossOf(called, id) };
      },
      close: async () => {
        await client.send({ method: 'DELETE', target });
      },
    },
  };
}
