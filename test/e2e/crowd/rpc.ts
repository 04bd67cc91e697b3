/** A client of plain RPC: its session's id is in a header, and 404 ends the session. */
import type { Target } from '../support/target.ts';
import {
  ask,
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
    const answer = await ask(`${url}/rpc`, { method: 'POST' });
    if (isOutcome(answer)) return answer;
    if (answer.status !== 200) return outcomeOf(answer);
    id = answer.headers.get('x-session-id') ?? '';
    return countedIn(withoutHint(id), answer.body);
  }

  async function call(): Promise<Outcome> {
    const headers = { 'x-session-id': id };
    const answer = await ask(`${url}/rpc/call`, { method: 'POST', headers, body: 'count' });
    if (isOutcome(answer)) return answer;
    if (answer.status === 200) return countedIn(withoutHint(id), answer.body);
    const isGone = answer.status === 404 && Problem.safeParse(jsonOf(answer.body)).success;
    return isGone ? { kind: 'gone', session: withoutHint(id) } : outcomeOf(answer);
  }

  return { open, call, leave: () => undefined };
}
