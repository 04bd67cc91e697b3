import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  describePostgresOpenFailure,
  describePostgresUrl,
} from '../../../src/store/postgres/errors.ts';
import { toPostgresStoreError } from '../../../src/store/postgres/errors.ts';

const shown: [url: string, address: string][] = [
  ['postgres://h/db', 'postgres://h/db'],
  ['postgresql://me:secret@h:6543/db', 'postgres://h:6543/db'],
  ['postgres://me:p%40ss%2Fsecret@[fdaa::3]:5432/db', 'postgres://[fdaa::3]:5432/db'],
  ['postgres://h/db?sslmode=no-verify&password=secret&user=me', 'postgres://h/db'],
  ['postgres://me:secret@%2Ftmp%2Frun/db', 'postgres://%2Ftmp%2Frun/db'],
  ['postgres:///db?host=/tmp', 'postgres:///db'],
];
for (const [url, address] of shown) {
  test(`${url} is shown without credentials`, () => {
    assert.equal(describePostgresUrl(url), address);
  });
}

const rejected = [
  'mysql://me:secret@h/db',
  'me:secret@h/db',
  'postgres://me:secret@one:5432,two:5432/db',
  'postgres://me:secret#1@h/db/%',
  '',
];
for (const url of rejected) {
  test(`"${url}" is rejected, and the error contains no part of it`, () => {
    assert.throws(
      () => describePostgresUrl(url),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'fatal');
        assert.match(error.message, /SESSION_STORE_URL.*postgres:\/\/USER:PASSWORD@HOST/);
        assert.doesNotMatch(JSON.stringify([error, error.message, error.cause]), /secret/);
        return true;
      },
    );
  });
}

const advice: [code: string, advice: RegExp][] = [
  ['ECONNREFUSED', /try again$/],
  ['28P01', /user and password/],
  ['3D000', /create it/],
  ['42501', /GRANT/],
  ['53100', /more resources/],
  ['XX001', /checked and restored.*another database/],
];
for (const [code, pattern] of advice) {
  test(`an open that failed with ${code} reports where, why, and what to do`, () => {
    const error = toPostgresStoreError('opening', Object.assign(new Error('no'), { code }));
    const described = describePostgresOpenFailure('postgres://h/db', error);
    assert.equal(described.code, error.code);
    assert.match(described.message, /^session store postgres:\/\/h\/db: opening failed: no \(/);
    assert.match(described.message, pattern);
  });
}
