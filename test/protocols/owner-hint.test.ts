import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createRequestIdReader } from '../../src/protocols/request-ids.ts';
import {
  createOwnerHintRemover,
  splitOwnerHint,
  withOwnerHint,
} from '../../src/protocols/owner-hint.ts';
import { parseSessionId, type SessionId } from '../../src/session.ts';
import { cpuMsOf } from '../support/cpu.ts';
import { get, machine, protocolsOf } from './heads.ts';

const PROTOCOLS = protocolsOf('mcp,mcp-sse,rpc,cookie:sid');
const removeHints = createOwnerHintRemover(PROTOCOLS, { hints: true });
const readIds = createRequestIdReader(PROTOCOLS, { hints: true });

const sessionId = (text: string): SessionId => {
  const id = parseSessionId(text);
  assert.ok(id, `${text} is a session id`);
  return id;
};

// prettier-ignore
const HINTED: readonly (readonly [text: string, id: string, machine: string])[] = [
  ['abc~m1', 'abc', 'm1'],
  ['a~b~m1', 'a~b', 'm1'],
  ['a~~m1', 'a~', 'm1'],
  ['~~m1', '~', 'm1'],
  [`a~${'0'.repeat(32)}`, 'a', '0'.repeat(32)],
  ['a b\xe9~m1', 'a b\xe9', 'm1'],
];
for (const [text, id, hint] of HINTED) {
  test(`${text} is ${id} with a hint`, () => {
    assert.deepEqual(splitOwnerHint(text), { id, machine: hint });
  });
}

// prettier-ignore
const UNHINTED = [
  '', '~', 'abc', 'abc~', '~m1', 'abc~M1', 'abc~m_1', 'abc~m1~', 'a\x7fb~m1', 'a~m1 ', 'ř~m1',
  `a~${'0'.repeat(33)}`, `${'a'.repeat(32_769)}~m1`, 'a~m1\n', 'a\n~m1',
];
for (const text of UNHINTED) {
  test(`${JSON.stringify(text)} has no hint`, () => assert.equal(splitOwnerHint(text), undefined));
}

// prettier-ignore
const TARGETS: readonly (readonly [target: string, cleaned: string])[] = [
  ['/m?session_id=abc~m1', '/m?session_id=abc'],
  ['/m?session_id=abc%7Em1', '/m?session_id=abc'],
  ['/m?session_id=abc%7em1&x=%7E', '/m?session_id=abc&x=%7E'],
  ['/m?session_id=abc~%6d1#f~m1', '/m?session_id=abc#f~m1'],
  ['/m?x=a~m1&sessionId=%41bc~m1&y=b~m1', '/m?x=a~m1&sessionId=%41bc&y=b~m1'],
  ['/m?session%5Fid=abc~m1', '/m?session%5Fid=abc'],
  ['/m?session_id=a~m1&session_id=a~m1', '/m?session_id=a&session_id=a'],
  ['/m?session_id=a~m1~m2', '/m?session_id=a~m1'],
  ['/m?sessionId=b~m2&session_id=a~m1', '/m?sessionId=b&session_id=a'],
  ['/m?session_id=%%7Em1', '/m?session_id=%'],
];
for (const [target, cleaned] of TARGETS) {
  test(`${target} reaches the app as ${cleaned}`, () => {
    assert.equal(removeHints(get(target)).target, cleaned);
  });
}

// prettier-ignore
const HEADERS: readonly (readonly [name: string, value: string, cleaned: string])[] = [
  ['MCP-Session-Id', 'abc~m1', 'abc'],
  ['x-session-id', 'abc~m1', 'abc'],
  ['Cookie', 'a=x~m1; sid=abc~m1;b=y~m1', 'a=x~m1; sid=abc;b=y~m1'],
  ['cookie', 'sid="abc~m1" ; b', 'sid="abc" ; b'],
  ['cookie', 'sid=abc~m1; sid=abc~m1', 'sid=abc; sid=abc'],
];
for (const [name, value, cleaned] of HEADERS) {
  test(`${name}: ${value} reaches the app as ${cleaned}`, () => {
    const { rawHeaders } = removeHints(get('/', 'Host', 'a~m1', name, value, 'x', 'y~m1'));
    assert.deepEqual(rawHeaders, ['Host', 'a~m1', name, cleaned, 'x', 'y~m1']);
  });
}

// prettier-ignore
const UNTOUCHED: readonly (readonly [claim: string, target: string, ...rawHeaders: string[]])[] = [
  ['no id', '/~m1/a%7Em1', 'host', 'a'],
  ['an id without a hint', '/?session_id=abc%2f', 'mcp-session-id', 'abc', 'cookie', 'sid=x; a=~m1'],
  ['a hint on another name', '/?sid=abc~m1&mcp-session-id=a~m1', 'session_id', 'a~m1'],
  ['a hint in a fragment', '/#?session_id=a~m1'],
  ['a hint without an id', '/?session_id=a%09b~m1', 'mcp-session-id', '~m1', 'cookie', 'sid=~m1'],
  ['a hint that is not a Machine id', '/?session_id=a~M1', 'x-session-id', 'a~'],
];
for (const [claim, target, ...rawHeaders] of UNTOUCHED) {
  test(`the very same request reaches the app with ${claim}`, () => {
    const head = get(target, ...rawHeaders);
    assert.equal(removeHints(head), head);
  });
}

test('an id that is known to end like a hint stays, a hint next to it does not', () => {
  const whole = sessionId('user~bob');
  const head = get('/?session_id=user%7Ebob', 'x-session-id', 'user~bob', 'cookie', 'sid=a~m1');
  assert.deepEqual(removeHints(head, whole), {
    target: '/?session_id=user%7Ebob',
    rawHeaders: ['x-session-id', 'user~bob', 'cookie', 'sid=a'],
  });
});

/** A cookie's id can't contain what ends or quotes a cookie. */
const anyId = fc
  .string({
    unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)),
    minLength: 1,
    maxLength: 512,
  })
  .filter((text) => !/[;"]/.test(text))
  .map(sessionId);
const anyMachine = fc.stringMatching(/^[a-z0-9]{1,32}$/).map(machine);

test('a hint that is added and removed again leaves every byte unchanged', () => {
  const escapes = fc.constantFrom(encodeURIComponent, (text: string) =>
    encodeURIComponent(text).replaceAll('~', '%7E'),
  );
  fc.assert(
    fc.property(anyId, anyMachine, escapes, (id, owner, escape) => {
      const hinted = withOwnerHint(id, owner);
      assert.deepEqual(splitOwnerHint(hinted), { id, machine: owner });
      const requestWith = (text: string) =>
        get(
          `/a?x=~m&session_id=${escape(text)}&y#z`,
          'Mcp-Session-Id',
          text,
          'cookie',
          `a="; sid="${text}"; b=c~d`,
        );
      const cleaned = removeHints(requestWith(hinted));
      const { target, rawHeaders } = requestWith(id);
      assert.equal(cleaned.target, target);
      assert.deepEqual(cleaned.rawHeaders, rawHeaders);
    }),
  );
});

test('an id without a hint is never changed', () => {
  const unhinted = anyId.filter((id) => splitOwnerHint(id) === undefined);
  fc.assert(
    fc.property(unhinted, (id) => {
      const head = get(
        `/?session_id=${encodeURIComponent(id)}`,
        'x-session-id',
        id,
        'cookie',
        `sid=${id}`,
      );
      assert.equal(removeHints(head), head);
    }),
  );
});

test('the removed hint is the one that was parsed', () => {
  const text = fc.string({
    unit: fc.constantFrom('a', '~', 'm', '1', '%', '7', 'E', '&', '=', 'session_id', ' '),
  });
  fc.assert(
    fc.property(text, (value) => {
      const head = get(`/?session_id=${value}`);
      const before = readIds(head);
      const after = createRequestIdReader(PROTOCOLS, { hints: false })({
        ...head,
        ...removeHints(head),
      });
      if (before.kind === 'found') assert.equal(after.kind === 'found' && after.id, before.id);
    }),
    { numRuns: 2_000 },
  );
});

test('many equal ids are cleaned in one pass, in the longest allowed head', () => {
  const many = 100_000;
  const query = 'session_id=a~m1&'.repeat(many / 4);
  const head = get(`/?${query}`, 'Cookie', 'sid=a~m; '.repeat(many));
  const cpuMs = cpuMsOf(() => {
    const { target, rawHeaders } = removeHints(head);
    assert.equal(target, `/?${'session_id=a&'.repeat(many / 4)}`);
    assert.deepEqual(rawHeaders, ['Cookie', 'sid=a; '.repeat(many)]);
  });
  assert.ok(cpuMs < 2_000, `${cpuMs} ms`);
});
