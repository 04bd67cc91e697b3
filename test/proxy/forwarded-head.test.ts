/** The head of a forward between two sidecars, and heads that are not accepted as one. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  hasRefusal,
  readPeerRefusal,
  REFUSED_HEADER,
  unwrapHead,
  wrapHead,
} from '../../src/proxy/forwarded-head.ts';
import { machineId } from '../support/ids.ts';

const M2 = machineId('m2');
const PEER = '[fdaa::2]:8081';

/** Fields that {@link wrapHead} adds. */
const TARGET = 'x-fly-affinity-target';
const HOST = 'x-fly-affinity-host';
const MACHINE = 'x-fly-affinity-machine';
const REQUEST_ID = 'x-fly-affinity-request-id';
const NO_NOTES = { placedBy: undefined, requestId: undefined };

const wrap = (target: string, ...rawHeaders: readonly string[]): string[] =>
  wrapHead({ target, rawHeaders }, M2, PEER);

describe('a forwarded head', () => {
  test('has the peer as its host, and the fields of the client', () => {
    assert.deepEqual(wrap('/a?b', 'X-A', '1', 'HOST', 'app', 'x-a', '2'), [
      ...['Host', PEER, 'X-A', '1', HOST, 'app', 'x-a', '2'],
      ...[TARGET, '/a?b', MACHINE, 'm2'],
    ]);
  });

  test('drops these fields if the client sent them, in any case', () => {
    const forged = [
      ...[TARGET, '/forged', HOST, 'forged', MACHINE.toUpperCase(), 'm3'],
      ...['X-Fly-Affinity-Request-Id', 'forged'],
    ];
    const wrapped = wrap('/a', ...forged, 'Host', 'app');
    assert.deepEqual(wrapped, ['Host', PEER, HOST, 'app', TARGET, '/a', MACHINE, 'm2']);
  });

  test('has the Machine that placed it, and the request id that its sender generated', () => {
    const notes = { placedBy: machineId('m1'), requestId: '4c2e-1' };
    const wrapped = wrapHead({ target: '/a', rawHeaders: [] }, M2, PEER, notes);
    assert.deepEqual(wrapped.slice(-4), ['x-fly-affinity-placed', 'm1', REQUEST_ID, '4c2e-1']);
    assert.deepEqual(unwrapHead(wrapped)?.notes, notes);
  });

  test('has no host field if the client sent none', () => {
    const wrapped = wrap('/a', 'X-A', '1');
    assert.deepEqual(wrapped, ['Host', PEER, 'X-A', '1', TARGET, '/a', MACHINE, 'm2']);
    const unwrapped = {
      target: '/a',
      machine: 'm2',
      notes: NO_NOTES,
      rawHeaders: ['X-A', '1'],
    };
    assert.deepEqual(unwrapHead(wrapped), unwrapped);
  });

  test('unwraps to the fields of the client, in order and case', () => {
    const name = fc.constantFrom(
      'X-A',
      'x-a',
      'Cookie',
      'Fly-Replay-Src',
      'Via',
      'X-Fly-Affinity-X',
    );
    const value = fc.string({ unit: fc.constantFrom('a', ' ', '\xff', ',', '/'), maxLength: 8 });
    const target = fc.constantFrom('/', '*', '/a?b=c', '//x//', '/\xe9');
    const host = fc.option(fc.constantFrom('a', 'a:80', '[::1]:80'), { nil: undefined });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(name, value), { maxLength: 6 }),
        target,
        host,
        (fields, path, hostValue) => {
          const rawHeaders = [
            ...(hostValue === undefined ? [] : ['Host', hostValue]),
            ...fields.flat(),
          ];
          const received = unwrapHead(wrap(path, ...rawHeaders));
          assert.deepEqual(received, {
            target: path,
            machine: 'm2',
            notes: NO_NOTES,
            rawHeaders,
          });
        },
      ),
    );
  });
});

describe('a head that a peer sends as a forward', () => {
  const WHOLE = ['Host', PEER, HOST, 'app', TARGET, '/a', MACHINE, 'm2'];

  test('is accepted with a target and a Machine, and the host is optional', () => {
    assert.ok(unwrapHead(WHOLE));
    assert.ok(unwrapHead(['Host', PEER, TARGET, '/a', MACHINE, 'm2']));
  });

  for (const missing of [TARGET, MACHINE]) {
    test(`is rejected without ${missing}`, () => {
      const at = WHOLE.indexOf(missing);
      assert.equal(unwrapHead(WHOLE.toSpliced(at, 2)), undefined);
    });
  }

  // The sidecar would copy these into a request line or a field.
  // prettier-ignore
  const TARGETS = ['', ' ', 'a', '**', 'http://other/', 'https://other/a', 'other:443', '/a b', '/a#b', '/a\tb', '/a\r\nX: y', '/a HTTP/1.1\r\nHost: x\r\n\r\nGET /b', '/\x7f', '/\0', '/\n', '\r\n/'];
  for (const target of TARGETS) {
    test(`is rejected with the target ${JSON.stringify(target)}`, () => {
      assert.equal(unwrapHead(WHOLE.with(WHOLE.indexOf(TARGET) + 1, target)), undefined);
    });
  }

  // prettier-ignore
  const HOSTS = ['', ' ', 'a b', 'a,b', 'a@b', 'a/b', 'http://a', 'a\r\nX: y', 'a:b', ':80', '[::1', 'a\0', '\xe9'];
  for (const host of HOSTS) {
    test(`is rejected with the host ${JSON.stringify(host)}`, () => {
      assert.equal(unwrapHead(WHOLE.with(WHOLE.indexOf(HOST) + 1, host)), undefined);
    });
  }

  test('uses the first of several values, and passes on only the host', () => {
    const received = unwrapHead([...WHOLE, TARGET, '/other', MACHINE, 'm3', 'X-A', '1']);
    assert.deepEqual(received, {
      target: '/a',
      machine: 'm2',
      notes: NO_NOTES,
      rawHeaders: ['Host', 'app', 'X-A', '1'],
    });
  });

  // prettier-ignore
  const REQUEST_IDS = ['', ' ', 'a b', 'a\tb', '"a"', '<a>', 'a/b', '\xe9', 'x'.repeat(129)];
  for (const requestId of REQUEST_IDS) {
    test(`has no request id that is ${JSON.stringify(requestId)}`, () => {
      assert.deepEqual(unwrapHead([...WHOLE, REQUEST_ID, requestId])?.notes, NO_NOTES);
    });
  }

  test('is rejected with two hosts', () => {
    for (const other of ['app', 'other', 'a b', '']) {
      assert.equal(unwrapHead([...WHOLE, HOST, other]), undefined);
    }
  });
});

describe('a response of a peer', () => {
  const rows: readonly (readonly [status: number, value: string | undefined, reason: unknown])[] = [
    [421, 'moved', 'moved'],
    [421, 'not-meant', 'not-meant'],
    [403, 'stranger', 'stranger'],
    [421, undefined, undefined],
    [421, 'other', undefined],
    [421, 'MOVED', undefined],
    [200, 'moved', undefined],
    [404, 'moved', undefined],
  ];
  for (const [status, value, reason] of rows) {
    test(`of ${status} with ${String(value)} is ${reason === undefined ? 'a response of the app' : 'a rejection'}`, () => {
      const rawHeaders = value === undefined ? [] : ['X-Fly-Affinity-Refused', value];
      assert.equal(readPeerRefusal(status, rawHeaders), reason);
    });
  }

  test('is a rejection if it has the header that only a sidecar sends', () => {
    assert.equal(hasRefusal([REFUSED_HEADER, 'x']), true);
    assert.equal(hasRefusal(['A', '1', REFUSED_HEADER.toUpperCase(), 'x']), true);
    assert.equal(hasRefusal(['A', REFUSED_HEADER]), false);
    assert.equal(hasRefusal([]), false);
  });
});
