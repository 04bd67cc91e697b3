import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseRedisUrl, type RedisAddress } from '../../../src/store/redis/link.ts';

const plain: RedisAddress = {
  ...{ host: 'h', port: 6379, isEncrypted: false, database: 0, shown: 'redis://h' },
  ...{ username: undefined, password: undefined },
};
const cases: [url: string, changes: Partial<RedisAddress>][] = [
  ['redis://h', {}],
  ['redis://h/', {}],
  ['redis://h:7000', { port: 7000, shown: 'redis://h:7000' }],
  ['redis://h/3', { database: 3, shown: 'redis://h:6379/3' }],
  ['redis://:secret@h', { password: 'secret' }],
  ['redis://me:secret@h', { username: 'me', password: 'secret' }],
  ['redis://me:p%40ss%2Fword%25@h', { username: 'me', password: 'p@ss/word%' }],
  ['redis://h?family=6', {}],
  ['redis://[fdaa:0:1::2]', { host: 'fdaa:0:1::2', shown: 'redis://[fdaa:0:1::2]' }],
  ['rediss://h', { isEncrypted: true, shown: 'rediss://h' }],
  [
    'rediss://default:secret@[::1]:7000/1',
    {
      ...{ host: '::1', port: 7000, isEncrypted: true, database: 1 },
      ...{ username: 'default', password: 'secret', shown: 'rediss://[::1]:7000/1' },
    },
  ],
];
for (const [url, changes] of cases) {
  test(`${url} is parsed, and shown without credentials`, () => {
    assert.deepEqual(parseRedisUrl(url), { ...plain, ...changes });
  });
}

const rejected: [url: string, why: RegExp][] = [
  ['http://me:secret@h', /redis:\/\/HOST/],
  ['redis://', /redis:\/\/HOST/],
  ['redis://:secret@h:99999', /redis:\/\/HOST/],
  ['redis://:secret@h/abc', /number of a database, got "\/abc"/],
  ['redis://:secret%@h', /written as %25/],
];
for (const [url, why] of rejected) {
  test(`${url} is rejected, and the error contains no secret of it`, () => {
    assert.throws(
      () => parseRedisUrl(url),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'fatal');
        assert.match(error.message, why);
        assert.doesNotMatch(JSON.stringify([error, error.message, error.cause]), /secret/);
        return true;
      },
    );
  });
}
