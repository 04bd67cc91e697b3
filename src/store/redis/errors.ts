/** What the errors of a Redis server, and of the way to it, mean for a store: the documented table. */
import { ErrorReply } from 'redis';
import { StoreError } from '../store.ts';
import type { StoreErrorCode } from '../store.ts';

/**
 * By the first word of the server's reply (https://redis.io/docs/latest/develop/reference/errors/),
 * by the code of an error of Node.js, or by the class of an error of the client library. What is not
 * listed is `fatal`.
 */
const CATEGORIES: readonly (readonly [code: string, category: StoreErrorCode, why: string])[] = [
  ['LOADING', 'passing', 'the server reads its data after a start'],
  ['READONLY', 'passing', 'a replica: another server is the primary now'],
  ['MASTERDOWN', 'passing', 'a replica that has lost its primary'],
  ['NOREPLICAS', 'passing', 'fewer replicas than the server insists on'],
  ['TRYAGAIN', 'passing', 'keys of the cluster are on the move'],
  ['CLUSTERDOWN', 'passing', 'the cluster elects a primary'],
  ['BUSY', 'passing', "somebody's script keeps the server"],
  ['NOSCRIPT', 'passing', 'the scripts were removed, twice in a row'],
  ['OOM', 'full', 'the server is at its maxmemory and may evict nothing'],
  ['MISCONF', 'full', 'the server can not write to its disk'],
  ['WRONGPASS', 'fatal', 'user name and password do not fit'],
  ['NOAUTH', 'fatal', 'the server wants a password'],
  ['NOPERM', 'fatal', 'the user may not run the command, or not on these keys'],
  ['DENIED', 'fatal', 'the server takes connections from its own computer only'],
  ['WRONGTYPE', 'fatal', 'something else is stored at a key of ours'],
  ['MOVED', 'fatal', 'a node of a cluster that has not our keys'],
  ['ASK', 'fatal', 'a node of a cluster that has not our keys'],
  ['CROSSSLOT', 'fatal', 'a cluster that ignores hash tags'],

  ['ECONNREFUSED', 'passing', 'nothing listens there'],
  ['ECONNRESET', 'passing', 'the connection broke'],
  ['ECONNABORTED', 'passing', 'the connection broke'],
  ['EPIPE', 'passing', 'the connection broke'],
  ['ETIMEDOUT', 'passing', 'nobody answers there'],
  ['EHOSTUNREACH', 'passing', 'no way there'],
  ['EHOSTDOWN', 'passing', 'no way there'],
  ['ENETUNREACH', 'passing', 'no way there'],
  ['ENETDOWN', 'passing', 'no way there'],
  ['ENOTFOUND', 'passing', 'the name has no address; one in .internal has none while nothing runs'],
  ['EAI_AGAIN', 'passing', 'the name server does not answer'],
  ['EADDRNOTAVAIL', 'passing', 'no free port here'],
  ['EMFILE', 'passing', 'too many files open here'],
  ['ENOBUFS', 'passing', 'no memory for the connection here'],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'fatal', 'a certificate that nobody vouches for'],
  ['SELF_SIGNED_CERT_IN_CHAIN', 'fatal', 'a certificate that nobody vouches for'],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'fatal', 'a certificate that nobody vouches for'],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'fatal', 'a certificate that nobody vouches for'],
  ['CERT_HAS_EXPIRED', 'fatal', 'a certificate that has expired'],
  ['ERR_TLS_CERT_ALTNAME_INVALID', 'fatal', 'a certificate for another name'],
  ['ERR_SSL_WRONG_VERSION_NUMBER', 'fatal', 'rediss:// to a port without TLS'],

  ['SocketClosedUnexpectedlyError', 'passing', 'the server closed the connection'],
  ['ConnectionTimeoutError', 'passing', 'nobody answers there'],
  ['DisconnectsClientError', 'passing', 'the connection was given up'],
  ['ClientClosedError', 'passing', 'the connection was given up'],
  ['ClientOfflineError', 'passing', 'there is no connection'],
];

/** Those that have no word of their own. */
const MESSAGES: readonly (readonly [message: RegExp, category: StoreErrorCode, why: string])[] = [
  [/^ERR max /, 'passing', 'a limit of the server or its plan on clients, or on requests'],
  [/^The queue is full$/, 'passing', 'too many commands wait for their answers'],
];

const CATEGORY_BY_CODE = new Map(CATEGORIES.map(([code, category]) => [code, category]));

/** `doing` says what failed, as in `store claim`. A {@link StoreError} says so itself. */
export function toRedisStoreError(doing: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  const reason = reasonOf(error);
  const cause = QUOTED_COMMAND.test(messageOf(error)) ? undefined : { cause: error };
  return new StoreError(categoryOf(error), `${doing} failed: ${reason}`, cause);
}

/** Whether the server itself has said so. */
export function isReply(error: unknown): boolean {
  return error instanceof ErrorReply;
}

/** How the table calls the error; empty if nothing about it says so. */
export function redisCodeOf(error: unknown): string {
  if (!(error instanceof Error)) return '';
  if (isReply(error)) return firstWord(error.message);
  if ('code' in error && typeof error.code === 'string') return error.code;
  return error.constructor.name;
}

function firstWord(message: string): string {
  return /^[A-Z]+\b/.exec(withoutPlace(message))?.[0] ?? '';
}

function categoryOf(error: unknown): StoreErrorCode {
  const category = CATEGORY_BY_CODE.get(redisCodeOf(error));
  if (category) return category;
  const message = messageOf(error);
  return MESSAGES.find(([pattern]) => pattern.test(message))?.[1] ?? 'fatal';
}

/** A server that does not know AUTH quotes the password that came with it. */
const QUOTED_COMMAND = /, with args beginning with: .*$/s;
function reasonOf(error: unknown): string {
  // A name with several addresses that all fail: the error itself says nothing.
  const [first] = error instanceof AggregateError ? (error.errors as unknown[]) : [];
  if (first !== undefined) return reasonOf(first);
  return withoutPlace(messageOf(error)).replace(QUOTED_COMMAND, '') || redisCodeOf(error);
}

/** `OOM command not allowed …. script: 3f5a…, on @user_script:24.` */
const PLACE = / script: [0-9a-f]{40}, on @user_script:\d+\.?$/;
/** `ERR Error running script (call to f_3f5a…): @user_script:24: @user_script: 24: -OOM …` */
const PLACE_BEFORE_REDIS_7 = /^ERR Error running script \(call to \w+\): (@user_script: ?\d+: )+-?/;

/** Where in a script a command has failed says nothing of what has failed. */
function withoutPlace(message: string): string {
  return message.replace(PLACE, '').replace(PLACE_BEFORE_REDIS_7, '');
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
