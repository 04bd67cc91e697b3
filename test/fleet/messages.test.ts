import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Binding, SessionKey } from '../../src/session.ts';
import { claimOf, outranks, type Claimant } from '../../src/fleet/claim-resolver.ts';
import { rendezvousWinner } from '../../src/fleet/rendezvous.ts';
import {
  formatAnnounce,
  formatResponse,
  formatAsk,
  MAX_KEYS,
  MAX_MESSAGE_BYTES,
  parseAnnounce,
  parseResponse,
  parseAsk,
  parseStatus,
  type Claim,
  type KeyResponse,
} from '../../src/fleet/messages.ts';
import { keyOf, machineId } from '../support/ids.ts';

const [A, B] = [machineId('aa'), machineId('bb')];
const KEY = keyOf('one');
const CLAIM: Claim = { generation: 1, origin: 'learned', createdAt: 1_000, ttlMs: 60_000 };

describe('messages', () => {
  it('arrive as they were sent', () => {
    const ask = { from: A, questions: [{ key: KEY }, { key: keyOf('two'), claim: CLAIM }] };
    assert.deepEqual(parseAsk(formatAsk(ask)), ask);
    const announce = { from: A, bindings: [{ key: KEY, claim: CLAIM }] };
    assert.deepEqual(parseAnnounce(formatAnnounce(announce)), announce);
    const answers = new Map<SessionKey, KeyResponse>([
      [KEY, CLAIM],
      [keyOf('two'), 'no'],
      [keyOf('three'), 'unknown'],
    ]);
    assert.deepEqual(parseResponse(formatResponse({ machine: B, answers })), {
      machine: B,
      answers,
    });
  });

  it('of other versions are accepted: fields that the schema does not name are ignored', () => {
    const claim = { ...CLAIM, isPending: 'later', mood: 'good' };
    const one = [{ key: KEY, claim, also: 1 }];
    const text = JSON.stringify(
      message({ questions: one, bindings: one, answers: { [KEY]: claim } }),
    );
    assert.equal(parseAsk(text)?.questions[0]?.claim?.isPending, undefined);
    assert.equal(parseAnnounce(text)?.bindings[0]?.key, KEY);
    const answer = parseResponse(text)?.answers.get(KEY);
    assert.equal(typeof answer === 'object' && answer.ttlMs, CLAIM.ttlMs);
    const status = { version: 3, takesSessions: false, load: 0.5 };
    assert.deepEqual(parseStatus(JSON.stringify(message({ status, to: B })))?.status, {
      ...{ version: 3, takesSessions: false, region: undefined },
    });
  });

  it('fit their size limits with the most keys and the longest claims', () => {
    const claim: Claim = { ...CLAIM, origin: 'adopted', createdAt: 9_007_199_254_740_991 };
    const keys = Array.from({ length: MAX_KEYS }, (_, i) => keyOf(String(i)));
    const from = machineId('a'.repeat(32));
    const bindings = keys.map((key) => ({ key, claim }));
    assert.ok(formatAsk({ from, questions: bindings }).length < MAX_MESSAGE_BYTES);
    assert.ok(formatAnnounce({ from, bindings }).length < MAX_MESSAGE_BYTES);
    const answers = new Map(keys.map((key) => [key, claim]));
    assert.ok(formatResponse({ machine: from, answers }).length < MAX_MESSAGE_BYTES);
  });

  const junk: [string, unknown][] = [
    ['no JSON', undefined],
    ['null', null],
    ['a list', []],
    ['a number', 1],
    ['nothing', {}],
    ['no sender', { questions: [], bindings: [], answers: {} }],
    ['a sender that is not a Machine id', message({ from: 'A-B', machine: 'A-B' })],
    ['a sender that is not a string', message({ from: ['aa'], machine: ['aa'] })],
    ['no list', message({ questions: { 0: {} }, bindings: 'x', answers: [] })],
    ['null members', message({ questions: [null], bindings: [null], answers: { x: 'no' } })],
    ['a key that is an id', withKey('one')],
    ['a key in upper case', withKey(KEY.toUpperCase())],
    ['a key with a line break', withKey(`${KEY}\n`)],
    ['a claim that is a string', withClaim('mine')],
    ['a claim without a generation', withClaim({ ...CLAIM, generation: undefined })],
    ['generation 0', withClaim({ ...CLAIM, generation: 0 })],
    ['generation 1.5', withClaim({ ...CLAIM, generation: 1.5 })],
    ['an infinite generation', withClaim({ ...CLAIM, generation: 1e308 })],
    ['a generation at the upper limit', withClaim({ ...CLAIM, generation: 2 ** 53 - 1 })],
    ['a generation in letters', withClaim({ ...CLAIM, generation: '1' })],
    ['a copied claim', withClaim({ ...CLAIM, origin: 'copied' })],
    ['a negative time', withClaim({ ...CLAIM, createdAt: -1 })],
    ['no time left', withClaim({ ...CLAIM, ttlMs: 0 })],
    ['a TTL above the limit', withClaim({ ...CLAIM, ttlMs: 1e15 })],
    ['more keys than allowed', withManyKeys(MAX_KEYS + 1)],
  ];
  for (const [name, value] of junk) {
    it(`with ${name} are rejected as a whole`, () => {
      const text = value === undefined ? '{"from":' : JSON.stringify(value);
      assert.equal(parseAsk(text), undefined);
      assert.equal(parseAnnounce(text), undefined);
      assert.equal(parseResponse(text), undefined);
    });
  }

  function message(fields: object): object {
    return { from: A, machine: A, questions: [], bindings: [], answers: {}, ...fields };
  }

  function withKey(key: string): object {
    const one = [{ key, claim: CLAIM }];
    return message({ questions: one, bindings: one, answers: { [key]: 'no' } });
  }

  function withClaim(claim: unknown): object {
    const one = [{ key: KEY, claim }];
    return message({ questions: one, bindings: one, answers: { [KEY]: claim } });
  }

  function withManyKeys(count: number): object {
    const keys = Array.from({ length: count }, (_, i) => keyOf(String(i)));
    const many = keys.map((key) => ({ key, claim: CLAIM }));
    const answers = Object.fromEntries(keys.map((key) => [key, 'no']));
    return message({ questions: many, bindings: many, answers });
  }

  it('report the remaining life of a binding in whole milliseconds, above zero and below the limit', () => {
    const binding: Binding = {
      key: KEY,
      machine: A,
      origin: 'adopted',
      generation: 2,
      createdAt: 5,
      expiresAt: 6,
    };
    const claim = { generation: 2, origin: 'adopted', createdAt: 5 };
    assert.deepEqual(claimOf(binding, 1.5), { ...claim, ttlMs: 2 });
    assert.deepEqual(claimOf(binding, -5), { ...claim, ttlMs: 1 });
    assert.equal(
      parseAnnounce(
        formatAnnounce({ from: A, bindings: [{ key: KEY, claim: claimOf(binding, 1e300) }] }),
      )?.from,
      A,
    );
  });
});

describe('outranks', () => {
  const base: Claimant = { ...CLAIM, machine: A };
  const HIGHER = rendezvousWinner(KEY, [A, B]) ?? assert.fail();
  const LOWER = HIGHER === A ? B : A;
  const rows: [string, winner: Partial<Claimant>, loser: Partial<Claimant>][] = [
    ['the higher generation', { generation: 2, origin: 'adopted', createdAt: 9 }, { createdAt: 1 }],
    [
      'learned before adopted, whatever the clocks say',
      { createdAt: 9 },
      { origin: 'adopted', createdAt: 1 },
    ],
    [
      'the earlier binding by whole ten seconds',
      { createdAt: 9_999, machine: LOWER },
      { createdAt: 10_000, machine: HIGHER },
    ],
    [
      'within ten seconds the Machine where placement puts the key',
      { createdAt: 19_999, machine: HIGHER },
      { createdAt: 10_000, machine: LOWER },
    ],
  ];
  for (const [name, winner, loser] of rows) {
    it(`prefers ${name}, on both sides`, () => {
      assert.equal(outranks(KEY, { ...base, ...winner }, { ...base, ...loser }), true);
      assert.equal(outranks(KEY, { ...base, ...loser }, { ...base, ...winner }), false);
    });
  }
});
