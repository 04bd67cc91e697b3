/**
 * What the errors of a Redis server, and of the connection to it, mean for a store: the documented
 * table.
 */
import { ErrorReply } from 'redis';
import { StoreError } from '../store.ts';
import type { StoreErrorCode } from '../store.ts';
import { codeOf, messageOf } from '../../errors.ts';

/**
 * By the first word of the server's response
 * (https://redis.io/docs/latest/develop/reference/errors/), by the code of an error of Node.js, or
 * by the class of an error of the client library. Everything else is `fatal`.
 */
const CATEGORIES: readonly (readonly [code: string, category: StoreErrorCode, why: string])[] = [
  ['LOADING', 'passing', 'the server is loading its data after a start'],
  ['READONLY', 'passing', 'a replica: another server is the primary now'],
  ['MASTERDOWN', 'passing', 'a replica that has lost its primary'],
  ['NOREPLICAS', 'passing', 'fewer replicas than the server requires'],
  ['TRYAGAIN', 'passing', 'the cluster is migrating keys'],
  ['CLUSTERDOWN', 'passing', 'the cluster elects a primary'],
  ['BUSY', 'passing', 'another script blocks the server'],
  ['NOSCRIPT', 'passing', 'the scripts were removed, twice in a row'],
  ['OOM', 'full', 'the server is at its maxmemory and may evict nothing'],
  ['MISCONF', 'full', 'the server cannot write to its disk'],
  ['WRONGPASS', 'fatal', 'wrong user name or password'],
  ['NOAUTH', 'fatal', 'the server requires a password'],
  ['NOPERM', 'fatal', 'the user lacks permission for the command or the keys'],
  ['DENIED', 'fatal', 'the server accepts connections from its own host only'],
  ['WRONGTYPE', 'fatal', 'another type of value is stored at a key of fly-affinity'],
  ['MOVED', 'fatal', 'a cluster node that does not hold the keys'],
  ['ASK', 'fatal', 'a cluster node that does not hold the keys'],
  ['CROSSSLOT', 'fatal', 'the cluster ignores hash tags'],

  ['ECONNREFUSED', 'passing', 'connection refused'],
  ['ECONNRESET', 'passing', 'the connection broke'],
  ['ECONNABORTED', 'passing', 'the connection broke'],
  ['EPIPE', 'passing', 'the connection broke'],
  ['ETIMEDOUT', 'passing', 'no response'],
  ['EHOSTUNREACH', 'passing', 'no route to the server'],
  ['EHOSTDOWN', 'passing', 'no route to the server'],
  ['ENETUNREACH', 'passing', 'no route to the server'],
  ['ENETDOWN', 'passing', 'no route to the server'],
  [
    'ENOTFOUND',
    'passing',
    'the name does not resolve; a .internal name does not while no Machine runs',
  ],
  ['EAI_AGAIN', 'passing', 'the name server does not respond'],
  ['EADDRNOTAVAIL', 'passing', 'no free local port'],
  ['EMFILE', 'passing', 'too many open files in this process'],
  ['ENOBUFS', 'passing', 'no local memory for the connection'],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'fatal', 'the certificate is not trusted'],
  ['SELF_SIGNED_CERT_IN_CHAIN', 'fatal', 'the certificate is not trusted'],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'fatal', 'the certificate is not trusted'],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'fatal', 'the certificate is not trusted'],
  ['CERT_HAS_EXPIRED', 'fatal', 'the certificate has expired'],
  ['ERR_TLS_CERT_ALTNAME_INVALID', 'fatal', 'the certificate is for another name'],
  ['ERR_SSL_WRONG_VERSION_NUMBER', 'fatal', 'rediss:// to a port without TLS'],

  ['SocketClosedUnexpectedlyError', 'passing', 'the server closed the connection'],
  ['ConnectionTimeoutError', 'passing', 'no response'],
  ['DisconnectsClientError', 'passing', 'the connection was aborted'],
  ['ClientClosedError', 'passing', 'the connection was aborted'],
  ['ClientOfflineError', 'passing', 'there is no connection'],
];

/** Errors that have no code word of their own. */
const MESSAGES: readonly (readonly [message: RegExp, category: StoreErrorCode, why: string])[] = [
  [/^ERR max /, 'passing', 'a limit of the server or its plan on clients, or on requests'],
  [/^The queue is full$/, 'passing', 'too many commands wait for responses'],
];

const CATEGORY_BY_CODE = new Map(CATEGORIES.map(([code, category]) => [code, category]));

/**
 * `doing` names the operation that failed, as in `store claim`. A {@link StoreError} passes
 * unchanged.
 */
export function toRedisStoreError(doing: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  const reason = reasonOf(error);
  const cause = QUOTED_COMMAND.test(messageOf(error)) ? undefined : { cause: error };
  return new StoreError(categoryOf(error), `${doing} failed: ${reason}`, cause);
}

/** Whether the error is a response of the server. */
export function isReply(error: unknown): boolean {
  return error instanceof ErrorReply;
}

/** The table's code of the error; empty if it has none. */
export function redisCodeOf(error: unknown): string {
  if (!(error instanceof Error)) return '';
  if (isReply(error)) return firstWord(error.message);
  return codeOf(error) ?? error.constructor.name;
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
  // If all addresses of a name fail, the error itself has no message.
  const [first] = error instanceof AggregateError ? (error.errors as unknown[]) : [];
  if (first !== undefined) return reasonOf(first);
  return withoutPlace(messageOf(error)).replace(QUOTED_COMMAND, '') || redisCodeOf(error);
}

/** `OOM command not allowed …. script: 3f5a…, on @user_script:24.` */
const PLACE = / script: [0-9a-f]{40}, on @user_script:\d+\.?$/;
/** `ERR Error running script (call to f_3f5a…): @user_script:24: @user_script: 24: -OOM …` */
const PLACE_BEFORE_REDIS_7 = /^ERR Error running script \(call to \w+\): (@user_script: ?\d+: )+-?/;

/** Removes the place in the script: it does not say what has failed. */
function withoutPlace(message: string): string {
  return message.replace(PLACE, '').replace(PLACE_BEFORE_REDIS_7, '');
}

/** The problem, with the server and the remedy. Keeps the code. */
export function describeRedisOpenFailure(server: string, error: StoreError): StoreError {
  const { code, message, cause } = error;
  const text = `the session store at ${server} cannot be used: ${message}; ${adviceOn(error)}`;
  return new StoreError(code, text, { cause });
}

function adviceOn({ code, cause }: StoreError): string {
  if (code !== 'passing')
    return 'check the address, user, password and permissions in SESSION_STORE_URL';
  if (isReply(cause)) return 'the server is reachable and may recover; the next attempt follows';
  return 'check that it runs, that this Machine can reach it, and whether it needs TLS (rediss://)';
}
