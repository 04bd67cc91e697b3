import assert from 'node:assert/strict';
import { mkdtemp, open, readFile, rm, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { parseMachineId, parseSessionId, sessionKeyOf } from '../../src/session.ts';
import {
  createLogger,
  nullLogger,
  type Logger,
  type LogFormat,
  type LogLevel,
} from '../../src/observability/log.ts';
import { createRequestLog, type RequestLine } from '../../src/proxy/request-log.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';

const MACHINE = parseMachineId('m1') ?? assert.fail();
const SECRET = 'a-secret-session-id';
const REQUEST: RequestLine = {
  requestId: 'r1',
  method: 'POST',
  target: `/mcp?session_id=${SECRET}`,
  session: sessionKeyOf(parseSessionId(SECRET) ?? assert.fail()),
  decision: 'local',
  why: 'owner',
  owner: MACHINE,
  status: 200,
  durationMs: 1.23456,
};

interface OpenLog {
  readonly logger: Logger;
  readonly clock: TestClock;
  /** Closes the log first. */
  lines(): Promise<Record<string, unknown>[]>;
  text(): Promise<string>;
}

async function openLog(
  t: TestContext,
  level: LogLevel = 'info',
  format?: LogFormat,
): Promise<OpenLog> {
  const { file, filePath } = await openFile(t);
  const clock = createTestClock();
  const logger = createLogger({ level, format, machine: MACHINE, clock, fd: file.fd });
  const text = (): Promise<string> => readFile(filePath, 'utf8');
  const lines = async (): Promise<Record<string, unknown>[]> => {
    await logger.close();
    const written = (await text()).split('\n').filter((line) => line !== '');
    return written.map((line) => JSON.parse(line) as Record<string, unknown>);
  };
  return { logger, clock, lines, text };
}

async function openFile(t: TestContext): Promise<{ file: FileHandle; filePath: string }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'fly-affinity-log-'));
  const filePath = path.join(folder, 'log');
  const file = await open(filePath, 'w');
  t.after(async () => {
    await file.close();
    await rm(folder, { recursive: true });
  });
  return { file, filePath };
}

test('a request ends with one line of one format', async (t) => {
  const log = await openLog(t);
  createRequestLog(log.logger)(REQUEST);
  assert.deepEqual(await log.lines(), [
    {
      level: 30,
      time: log.clock.now(),
      machine: 'm1',
      requestId: 'r1',
      method: 'POST',
      path: '/mcp',
      session: REQUEST.session,
      decision: 'local',
      why: 'owner',
      owner: 'm1',
      status: 200,
      ms: 1.23,
      msg: 'request',
    },
  ]);
});

test('json-names has levels by name and times in ISO 8601', async (t) => {
  const log = await openLog(t, 'info', 'json-names');
  log.logger.warn({ peer: 'm2' }, 'does not respond');
  const time = new Date(log.clock.now()).toISOString();
  assert.deepEqual(await log.lines(), [
    { level: 'warn', time, machine: 'm1', peer: 'm2', msg: 'does not respond' },
  ]);
});

test('text is one line for people, whatever is in the fields', async (t) => {
  const log = await openLog(t, 'info', 'text');
  log.logger.debug({}, 'below the level');
  createRequestLog(log.logger)({ ...REQUEST, protocol: 'mcp', owner: undefined });
  const hostile = 'a b\n\u001b[2J\u009b2J\u2028c';
  log.logger.error({ hostile, n: 5, err: new Error('broken', { cause: 'x' }) }, 'failed');
  await log.logger.close();
  const [request, failure = '', ...others] = (await log.text()).split('\n');
  const time = new Date(log.clock.now()).toISOString().slice(11, 23);
  assert.equal(
    request,
    `${time} INFO  request requestId=r1 method=POST path=/mcp protocol=mcp session=${String(REQUEST.session)} decision=local why=owner status=200 ms=1.23`,
  );
  const shown = String.raw`${time} ERROR failed hostile="a b\n\u001b[2J\u009b2J\u2028c" n=5 err={"type":"Error","message":"broken"`;
  assert.ok(failure.startsWith(shown), failure);
  assert.deepEqual(others, ['']);
});

test('a request without session and owner has a line without them', async (t) => {
  const log = await openLog(t);
  createRequestLog(log.logger)({ ...REQUEST, session: undefined, owner: undefined });
  const [line = {}] = await log.lines();
  assert.ok(!('session' in line) && !('owner' in line));
});

test('a malformed request has a line with the reason', async (t) => {
  const log = await openLog(t);
  const reason = 'a field line is malformed';
  createRequestLog(log.logger)({
    ...REQUEST,
    decision: 'refuse',
    why: 'malformed-request',
    reason,
    status: 400,
  });
  const [line] = await log.lines();
  assert.equal(line?.reason, reason);
});

test('a duration is rounded to hundredths of a millisecond', async (t) => {
  const log = await openLog(t);
  const durations = [
    0, 0.004, 0.005, 0.05, 0.1, 0.994, 0.996, 1.2, 12, 99.999, 1234.567, 3_600_000.25,
  ];
  for (const durationMs of durations) createRequestLog(log.logger)({ ...REQUEST, durationMs });
  assert.deepEqual(
    (await log.lines()).map(({ ms }) => ms),
    [0, 0, 0.01, 0.05, 0.1, 0.99, 1, 1.2, 12, 100, 1234.57, 3_600_000.25],
  );
});

for (const [target, expected] of [
  ['/mcp', '/mcp'],
  [`/mcp?a=${SECRET}&b=/x`, '/mcp'],
  [`http://user:${SECRET}@host/mcp?a=1`, '/mcp'],
  [`http://user:${SECRET}@host`, '*'],
  [`user:${SECRET}@host:443`, '*'],
  ['*', '*'],
  [`/${'a'.repeat(300)}`, `/${'a'.repeat(255)}…`],
] as const) {
  test(`of the target ${target.slice(0, 40)} only the path is logged`, async (t) => {
    const log = await openLog(t);
    createRequestLog(log.logger)({ ...REQUEST, target });
    const [line] = await log.lines();
    assert.equal(line?.path, expected);
  });
}

test("a client's request id can neither make lines long nor add lines", async (t) => {
  const log = await openLog(t);
  createRequestLog(log.logger)({ ...REQUEST, requestId: `"}\n{"x":1${'a'.repeat(10_000)}` });
  const lines = await log.lines();
  assert.equal(lines.length, 1);
  assert.ok(String(lines[0]?.requestId).length < 140);
});

test('an error is logged with its causes, and without its other properties', async (t) => {
  const log = await openLog(t);
  const cause = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
  const parts = new AggregateError([cause], '');
  const error = Object.assign(new Error('store claim failed', { cause: parts }), { data: SECRET });
  log.logger.error({ err: error }, 'failed');
  const [line] = await log.lines();
  const { stack, ...described } = line?.err as Record<string, unknown>;
  assert.match(String(stack), /log\.test/);
  const connectionError = { type: 'Error', message: 'refused', code: 'ECONNREFUSED' };
  assert.deepEqual(described, {
    type: 'Error',
    message: 'store claim failed',
    cause: { type: 'AggregateError', message: '', errors: [connectionError] },
  });
});

test('a cyclic chain of causes is cut', async (t) => {
  const log = await openLog(t);
  const error = new Error('round');
  error.cause = error;
  log.logger.error({ err: error }, 'failed');
  assert.equal((await log.lines()).length, 1);
});

test('lines below the level are not written', async (t) => {
  const log = await openLog(t, 'warn');
  createRequestLog(log.logger)(REQUEST);
  log.logger.info({}, 'no');
  log.logger.warn({}, 'yes');
  assert.deepEqual(
    (await log.lines()).map(({ msg }) => msg),
    ['yes'],
  );
  assert.equal(log.logger.isLevelEnabled('info'), false);
});

test('a line waits for others, but not for long', async (t) => {
  const log = await openLog(t);
  log.logger.info({}, 'one');
  assert.equal(await log.text(), '');
  await log.clock.advance(200);
  while ((await log.text()) === '') await log.clock.advance(0);
  assert.match(await log.text(), /"msg":"one"/);
  await log.logger.close();
});

test('many lines are all written, in order', async (t) => {
  const log = await openLog(t);
  for (let index = 0; index < 5000; index++) log.logger.info({ index }, 'line');
  const written = (await log.lines()).map(({ index }) => index);
  assert.deepEqual(
    written,
    Array.from({ length: 5000 }, (_, index) => index),
  );
});

test('a line after the end is dropped', async (t) => {
  const log = await openLog(t);
  await Promise.all([log.logger.close(), log.logger.close()]);
  log.logger.info({}, 'late');
  assert.equal(await log.text(), '');
});

test('a destination that cannot be written loses the lines and has no other effect', async (t) => {
  const { file, filePath } = await openFile(t);
  const readOnly = await open(filePath, 'r');
  t.after(() => readOnly.close());
  const logger = createLogger({
    level: 'info',
    machine: MACHINE,
    clock: createTestClock(),
    fd: readOnly.fd,
  });
  for (let index = 0; index < 1000; index++) logger.info({}, 'lost');
  await logger.close();
  assert.equal((await file.stat()).size, 0);
});

test('the null logger accepts everything', async () => {
  nullLogger.fatal({}, 'x');
  createRequestLog(nullLogger)(REQUEST);
  await nullLogger.close();
});
