import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DisconnectsClientError, ErrorReply, SocketClosedUnexpectedlyError } from 'redis';
import { redisCodeOf, isReply, toRedisStoreError } from '../../../src/store/redis/errors.ts';
import { StoreError } from '../../../src/store/store.ts';

const IN_SCRIPT = 'script: 3f5a0c4b2d1e3f5a0c4b2d1e3f5a0c4b2d1e3f5a, on @user_script:24.';
const BEFORE_7 = 'ERR Error running script (call to f_3f5a): @user_script:24: @user_script: 24:';

const replies: [reply: string, category: string][] = [
  ['LOADING Redis is loading the dataset in memory', 'passing'],
  ["READONLY You can't write against a read only replica.", 'passing'],
  [`READONLY You can't write against a read only replica. ${IN_SCRIPT}`, 'passing'],
  [`${BEFORE_7} -READONLY You can't write against a read only replica. `, 'passing'],
  ["MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", 'passing'],
  ['NOREPLICAS Not enough good replicas to write.', 'passing'],
  ['TRYAGAIN Multiple keys request during rehashing of slot', 'passing'],
  ['CLUSTERDOWN Hash slot not served', 'passing'],
  ['BUSY Redis is busy running a script.', 'passing'],
  ['NOSCRIPT No matching script. Please use EVAL.', 'passing'],
  ['ERR max number of clients reached', 'passing'],
  ['ERR max daily request limit exceeded. Limit: 10000, Usage: 10000.', 'passing'],
  ["OOM command not allowed when used memory > 'maxmemory'.", 'full'],
  [`OOM command not allowed when used memory > 'maxmemory'. ${IN_SCRIPT}`, 'full'],
  [`${BEFORE_7} -OOM command not allowed when used memory > 'maxmemory'. `, 'full'],
  ['MISCONF Redis is configured to save RDB snapshots, but it is unable to persist', 'full'],
  ['WRONGPASS invalid username-password pair or user is disabled.', 'fatal'],
  ['NOAUTH Authentication required.', 'fatal'],
  ["NOPERM this user has no permissions to run the 'evalsha' command", 'fatal'],
  ['WRONGTYPE Operation against a key holding the wrong kind of value', 'fatal'],
  [`${BEFORE_7} WRONGTYPE Operation against a key holding the wrong kind of value `, 'fatal'],
  ['MOVED 3999 127.0.0.1:6381', 'fatal'],
  ["CROSSSLOT Keys in request don't hash to the same slot", 'fatal'],
  ["ERR unknown command 'EVALSHA', with args beginning with: '3f5a' '4' ", 'fatal'],
  ['ERR something that nobody has heard of', 'fatal'],
];
for (const [reply, category] of replies) {
  test(`the reply "${reply}" is ${category}`, () => {
    const cause = new ErrorReply(reply);
    assert.equal(isReply(cause), true);
    assert.equal(toRedisStoreError('store claim', cause).code, category);
  });
}

const others: [what: string, error: unknown, category: string][] = [
  ['a refused connection', coded('ECONNREFUSED'), 'passing'],
  ['a name without an address', coded('ENOTFOUND'), 'passing'],
  ['an untrusted certificate', coded('DEPTH_ZERO_SELF_SIGNED_CERT'), 'fatal'],
  ['a connection that the server closed', new SocketClosedUnexpectedlyError(), 'passing'],
  ['an abandoned connection', new DisconnectsClientError(), 'passing'],
  ['a full queue', new Error('The queue is full'), 'passing'],
  ['a mistake of ours', new TypeError('odd'), 'fatal'],
  ['no error at all', 'odd', 'fatal'],
];
for (const [what, error, category] of others) {
  test(`${what} is ${category}, and is no reply`, () => {
    assert.equal(toRedisStoreError('store claim', error).code, category);
    assert.equal(isReply(error), false);
  });
}

function coded(code: string): Error {
  return Object.assign(new Error(`connect ${code}`), { code });
}

test('an error contains the operation and the cause, and not its position in a script', () => {
  for (const message of [`OOM no room. ${IN_SCRIPT}`, `${BEFORE_7} -OOM no room.`]) {
    const cause = new ErrorReply(message);
    const error = toRedisStoreError('store claim', cause);
    assert.equal(error.message, 'store claim failed: OOM no room.');
    assert.equal(error.cause, cause);
  }
});

test('reports the first of several errors for an address', () => {
  const all = new AggregateError([coded('ECONNREFUSED'), coded('ENETUNREACH')], '');
  const error = toRedisStoreError('connecting', Object.assign(all, { code: 'ECONNREFUSED' }));
  assert.equal(error.message, 'connecting failed: connect ECONNREFUSED');
  assert.equal(error.code, 'passing');
});

test('a command quoted by the server, with a password in it, is not included', () => {
  const error = toRedisStoreError(
    'connecting',
    new ErrorReply("ERR unknown command 'AUTH', with args beginning with: 'me' 'secret' "),
  );
  assert.equal(error.message, "connecting failed: ERR unknown command 'AUTH'");
  assert.equal(error.cause, undefined);
});

test('returns an error of the store unchanged', () => {
  const known = new StoreError('full', 'no room');
  assert.equal(toRedisStoreError('store claim', known), known);
  assert.equal(redisCodeOf(new ErrorReply('READONLY no')), 'READONLY');
});
