import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Status } from '../ledger.ts';
import { faultsOf, type RequestEntry, type RequestLog } from './request-log.ts';

const FORWARD = { status: 200, isForward: true, isElsewhere: false };

function entry(status: number): RequestEntry {
  return { status, isForward: false, isElsewhere: false };
}

function logOf(machine: string, lines: Readonly<Record<string, RequestEntry[]>>): RequestLog {
  const requests = new Map(Object.entries(lines));
  const [warnings, decisions] = [new Map<string, number>(), new Map<string, number>()];
  const requestCount = [...requests.values()].flat().length;
  return { machine, requests, requestCount, errors: [], warnings, decisions };
}

function faults(
  lines: Readonly<Record<string, RequestEntry[]>>,
  sent: Readonly<Record<string, Status>>,
  otherLines: Readonly<Record<string, RequestEntry[]>> = {},
  malformed = 0,
): number {
  const requests = new Map(Object.entries(sent));
  return faultsOf(logOf('m1', lines), { requests, malformed }, [logOf('m2', otherLines)]).length;
}

test('a request with a response has one line, with the status that its client received', () => {
  assert.equal(faults({ a: [entry(200)] }, { a: 200 }), 0);
  assert.equal(faults({}, { a: 200 }), 1, 'no line');
  assert.equal(faults({ a: [entry(499)] }, { a: 200 }), 1, 'another status');
  assert.equal(faults({ a: [entry(200), entry(200)] }, { a: 200 }), 1, 'two lines');
});

test('a request whose client has disconnected has one line at most', () => {
  assert.equal(faults({}, { a: undefined }), 0);
  assert.equal(faults({ a: [entry(499)] }, { a: undefined }), 0);
  assert.equal(faults({ a: [entry(499), entry(499)] }, { a: undefined }), 1);
});

test('a forward of another Machine accounts for one line where it arrives', () => {
  assert.equal(faults({ a: [entry(200)] }, {}, { a: [FORWARD] }), 0);
  assert.equal(faults({ a: [entry(200)] }, {}), 1);
});

test("a line without a client's request belongs to a malformed request, or is a fault", () => {
  assert.equal(faults({ made: [entry(400)] }, {}, {}, 1), 0);
  assert.equal(faults({ made: [entry(400)], up: [entry(400)] }, {}, {}, 1), 1);
});
