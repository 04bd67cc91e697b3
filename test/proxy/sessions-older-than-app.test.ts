import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Minter } from '../../src/protocols/protocol.ts';
import { parseProtocols } from '../../src/protocols/setting.ts';
import { parseSessionId, type Binding, type BindingOrigin } from '../../src/session.ts';
import { SessionsOlderThanApp } from '../../src/proxy/app-responses.ts';
import type { Routed } from '../../src/routing/route.ts';
import { keyOf, machineId } from '../support/ids.ts';

const SELF = machineId('m1');
const STARTED_AT = 1_000;
const KEY = keyOf('one');

interface BindingOptions {
  readonly createdAt?: number;
  readonly machine?: string;
  readonly origin?: BindingOrigin;
}

function bindingOf({
  createdAt = 999,
  machine = 'm1',
  origin = 'learned',
}: BindingOptions = {}): Binding {
  const life = { generation: 1, createdAt, expiresAt: 9_999 };
  return { key: KEY, machine: machineId(machine), origin, ...life };
}

function routedTo(binding: Binding | undefined, mintedBy: Minter = 'app', preset = 'mcp'): Routed {
  const id = parseSessionId('one');
  const [row] = parseProtocols(preset).protocols ?? [];
  assert.ok(id && row);
  const protocol = { ...row, mintedBy };
  return {
    decision: { kind: 'local', why: 'owner', mayClaim: false },
    ids: { kind: 'found', id, hintedId: undefined, hint: undefined, protocol },
    ...{ key: KEY, owner: SELF, binding, wholeId: undefined, mayReplay: true },
  };
}

function setUp(
  { appStartedAt }: { appStartedAt?: number | undefined } = { appStartedAt: STARTED_AT },
) {
  let reports = 0;
  const onFirstRejected = (): void => void (reports += 1);
  const sessions = new SessionsOlderThanApp({ self: SELF, appStartedAt, onFirstRejected });
  const isRejected = (
    statusCode: number,
    routed: Routed = routedTo(bindingOf()),
    method = 'POST',
  ) =>
    sessions.isRejected({ method, target: '/mcp', rawHeaders: [] }, routed, {
      statusCode,
      rawHeaders: [],
    });
  return { sessions, isRejected, reports: () => reports };
}

describe('the response to a session older than the app', () => {
  for (const status of [400, 404, 410, 422]) {
    test(`rejects the session with ${status}`, () => assert.ok(setUp().isRejected(status)));
  }
  for (const status of [
    200, 101, 307, 401, 403, 405, 406, 407, 408, 409, 413, 415, 429, 500, 503,
  ]) {
    test(`does not reject the session with ${status}`, () =>
      assert.ok(!setUp().isRejected(status)));
  }
  for (const method of ['OPTIONS', 'HEAD']) {
    test(`does not reject the session in response to ${method}`, () =>
      assert.ok(!setUp().isRejected(404, routedTo(bindingOf()), method)));
  }
});

test('isRejected is false outside run, for a newer session, for another Machine and for an id of a client', () => {
  assert.ok(!setUp({ appStartedAt: undefined }).isRejected(400));
  const { isRejected } = setUp();
  for (const binding of [bindingOf({ createdAt: 1_000 }), bindingOf({ machine: 'm2' }), undefined])
    assert.ok(!isRejected(400, routedTo(binding)));
  for (const minter of ['client', 'either'] as const)
    assert.ok(!isRejected(400, routedTo(bindingOf(), minter)));
});

test("isRejected is false for an error of the app to a session cookie: it is a page's", () => {
  assert.ok(!setUp().isRejected(404, routedTo(bindingOf(), 'app', 'cookie:sid')));
});

test('isRejected is false once the app has accepted the session, but not after a redirect', () => {
  const { isRejected } = setUp();
  assert.ok(!isRejected(307));
  assert.ok(isRejected(400));
  assert.ok(!isRejected(202));
  assert.ok(!isRejected(400));
});

test('a rejected session stays rejected after its binding ended, and is reported once', () => {
  const { isRejected, reports } = setUp();
  assert.ok(isRejected(400));
  assert.ok(isRejected(400, routedTo(undefined)));
  assert.equal(reports(), 1);
});

test('a claimed session older than the app is void until the app accepts it', () => {
  const { sessions, isRejected } = setUp();
  const claimed = bindingOf({ origin: 'adopted' });
  assert.ok(sessions.isVoid(claimed));
  assert.ok(!sessions.isVoid(bindingOf({ origin: 'learned' })));
  assert.ok(!sessions.isVoid(bindingOf({ origin: 'adopted', createdAt: 1_000 })));
  assert.ok(!isRejected(101, routedTo(claimed, 'client')));
  assert.ok(!sessions.isVoid(claimed));
});
