import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isConnectionLost, toPostgresStoreError } from '../../../src/store/postgres/errors.ts';
import { StoreError, type StoreErrorCode } from '../../../src/store/store.ts';

function failure(code: string | undefined, message = 'so says pg'): Error {
  return Object.assign(new Error(message), code === undefined ? {} : { code });
}

const cases: [code: string, category: StoreErrorCode, isLost: boolean][] = [
  ['08006', 'passing', true],
  ['08P01', 'passing', true],
  ['22P02', 'fatal', false],
  ['25006', 'passing', false],
  ['28P01', 'fatal', false],
  ['28000', 'fatal', false],
  ['3D000', 'fatal', false],
  ['3F000', 'fatal', false],
  ['40001', 'passing', false],
  ['40P01', 'passing', false],
  ['42501', 'fatal', false],
  ['42703', 'fatal', false],
  ['42P01', 'fatal', false],
  ['53100', 'full', false],
  ['53200', 'passing', false],
  ['53300', 'passing', false],
  ['54000', 'full', false],
  ['55P03', 'passing', false],
  ['57014', 'passing', false],
  ['57P01', 'passing', true],
  ['57P03', 'passing', true],
  ['57P04', 'fatal', true],
  ['57P05', 'passing', false],
  ['58030', 'passing', false],
  ['XX000', 'passing', false],
  ['XX001', 'fatal', false],
  ['XX002', 'fatal', false],
  ['ECONNREFUSED', 'passing', true],
  ['ECONNRESET', 'passing', true],
  ['EPIPE', 'passing', true],
  ['ENOTFOUND', 'passing', true],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'fatal', true],
  ['ERR_TLS_CERT_ALTNAME_INVALID', 'fatal', true],
];
describe('an error of Postgres or of its connection', () => {
  for (const [code, category, isLost] of cases) {
    test(`${code} is ${category}${isLost ? ', and the connection is lost' : ''}`, () => {
      const error = failure(code);
      assert.equal(toPostgresStoreError('store claim', error).code, category);
      assert.equal(isConnectionLost(error), isLost);
    });
  }

  const uncoded: [message: string, category: StoreErrorCode][] = [
    ['Connection terminated unexpectedly', 'passing'],
    ['timeout expired', 'passing'],
    ['Client has encountered a connection error and is not queryable', 'passing'],
    ['The server does not support SSL connections', 'fatal'],
    ['SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string', 'fatal'],
  ];
  for (const [message, category] of uncoded) {
    test(`without a code, "${message}" is ${category}`, () => {
      assert.equal(toPostgresStoreError('opening', failure(undefined, message)).code, category);
    });
  }
});

test('the message contains the operation, the error of Postgres, and what it means', () => {
  const { message } = toPostgresStoreError(
    'store claim',
    failure('25006', 'cannot execute INSERT'),
  );
  assert.match(message, /^store claim failed: cannot execute INSERT \(the server is read-only/);
});

test('reports the code when all of several addresses fail', () => {
  const error = Object.assign(new AggregateError([]), { code: 'ECONNREFUSED' });
  assert.match(toPostgresStoreError('opening', error).message, /^opening failed: ECONNREFUSED/);
});

test('returns an error of the store unchanged', () => {
  const error = new StoreError('full', 'no room');
  assert.equal(toPostgresStoreError('store claim', error), error);
  assert.equal(isConnectionLost(error), false);
});
