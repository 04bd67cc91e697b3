/** Sessions that an app creates, as MCP's clients open and use them. */
import { jsonOf } from './bodies.ts';
import { call, type Way } from './call.ts';
import { wrong } from './failure.ts';
import type { Step } from './step.ts';

export interface Session {
  /** As the client sees it. */
  readonly id: string;
  /** As the app created it. */
  readonly minted: string;
  /** The app that has it in its memory. */
  readonly owner: string;
}

/** An app's response to a call in a session. */
export interface SessionState {
  readonly session: string;
  readonly pid: number;
  readonly calls: number;
}

const HINT_MARK = '~';
/** How often an id is sent without its hint, so that the other Machine must be queried. */
const BARE_ID_SHARE = 0.3;
/**
 * How often a request that needs no session is made in one, so that it is replayed or forwarded.
 */
const ROUTED_SHARE = 0.15;

export function plainWay(step: Step): Way {
  return { to: step.anyMachine(), fields: [], owner: undefined };
}

/** Some have no session; some enter at any Machine and belong to that of their session. */
export async function chooseWay(step: Step): Promise<Way> {
  if (!step.chance.isTrue(ROUTED_SHARE)) return plainWay(step);
  return wayTo(step, await openSession(step));
}

export async function openSession(step: Step): Promise<Session> {
  const response = await call(step, plainWay(step), { method: 'POST', target: '/mcp' });
  const { session: minted } = jsonOf(response) as SessionState;
  const owner = response.app ?? '';
  const id = response.fields.get('mcp-session-id') ?? '';
  const expected = step.around.isDirect ? minted : `${minted}${HINT_MARK}${owner}`;
  if (id !== expected) throw wrong(`the session id ${id} in place of ${expected}`);
  return { id, minted, owner };
}

/** To any Machine; without a sidecar in between, to the right one. */
export function wayTo(step: Step, { id, minted, owner }: Session): Way {
  const shown = step.chance.isTrue(BARE_ID_SHARE) ? minted : id;
  const home = step.machineCalled(owner);
  if (!home) throw wrong(`there is no Machine ${owner}`);
  const to = step.around.isDirect ? home : step.anyMachine();
  return { to, fields: [`mcp-session-id: ${shown}`], owner };
}
