/** The replays that a sidecar responds with: kept where they repeat, and with a span where there are traces. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseReplay } from '../../src/fly.ts';
import { headerValue } from '../../src/protocols/heads.ts';
import type { Decision, ReplayForm } from '../../src/routing/decision.ts';
import { createActions, type Action } from '../../src/routing/respond.ts';
import type { Routed } from '../../src/routing/route.ts';
import { machineId } from '../support/ids.ts';

const SPAN = `${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
const FORMS: readonly ReplayForm[] = ['resilient', 'waking', 'brief'];
const ELSEWHERE: Decision = { kind: 'elsewhere', why: 'full' };

function replayBy(form: ReplayForm): Decision {
  return {
    ...{ kind: 'replay', to: machineId('m2'), why: 'not-owner', form, invalidatesCache: false },
  };
}

const actionFor = createActions({ directory: { peer: () => undefined }, replayTimeoutMs: 10_000 });

function actionOf(decision: Decision, span?: string): Action & { readonly kind: 'respond' } {
  const routed: Routed = {
    ...{ decision, ids: { kind: 'none' }, key: undefined, owner: undefined },
    ...{ binding: undefined, wholeId: undefined, mayReplay: true },
  };
  const action = actionFor(routed, span);
  assert.ok(action.kind === 'respond');
  return action;
}

function replayOf(decision: Decision, span?: string) {
  return parseReplay(headerValue(actionOf(decision, span).response.headers, 'fly-replay') ?? '');
}

for (const decision of [...FORMS.map(replayBy), ELSEWHERE]) {
  const form = decision.kind === 'replay' ? decision.form : 'elsewhere';

  test(`without traces, a replay (${form}) is the same object every time`, () => {
    assert.equal(actionOf(decision).response, actionOf(decision).response);
    assert.equal(replayOf(decision)?.state, 'fly-affinity');
  });

  test(`with traces, a replay (${form}) differs in its state alone`, () => {
    const { state, ...others } = replayOf(decision, SPAN) ?? {};
    assert.equal(state, `fly-affinity.${SPAN}`);
    assert.deepEqual({ ...others, state: 'fly-affinity' }, replayOf(decision));
    assert.equal(replayOf(decision)?.state, 'fly-affinity', 'it is not kept');
  });
}

test("a replay for the edge's cache has no state, with traces or without", () => {
  const bare = replayBy('bare');
  assert.equal(actionOf(bare, SPAN).response, actionOf(bare).response);
  assert.deepEqual(replayOf(bare, SPAN), { instance: 'm2' });
});
