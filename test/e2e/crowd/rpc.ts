/** A client of plain RPC: the session's id is in a header, and 404 ends the session. */
import type { Target } from '../support/target.ts';
import {
  sendRequest,
  countedIn,
  isOutcome,
  jsonOf,
  outcomeOf,
  Problem,
  withoutHint,
  type Client,
  type Outcome,
} from './outcome.ts';

export function createRpcClient({ url }: Target): Client {
  let id = '';

  async function open(): Promise<Outcome> {
    const response = await sendRequest(`${url}/rpc`, { method: 'POST' });
    if (isOutcome(response)) return response;
    if (response.status !== 200) return outcomeOf(response);
    id = response.headers.get('x-session-id') ?? '';
    return countedIn(withoutHint(id), response.body);
  }

  async function call(): Promise<Outcome> {
    const headers = { 'x-session-id': id };
    const response = await sendRequest(`${url}/rpc/call`, {
      method: 'POST',
      headers,
      body: 'count',
    });
    if (isOutcome(response)) return response;
    if (response.status === 200) return countedIn(withoutHint(id), response.body);
    const isGone = response.status === 404 && Problem.safeParse(jsonOf(response.body)).success;
    return isGone ? { kind: 'gone', session: withoutHint(id) } : outcomeOf(response);
  }

  return { open, call, leave: () => undefined };
}
