import assert from 'node:assert/strict';
import { test } from 'node:test';
import { awaitPort } from '../../src/app/supervised-app.ts';
import { systemClock } from '../../src/clock.ts';
import { freePort } from '../support/free-port.ts';

test('nothing is said to wait for a port once the waiting has ended', async () => {
  const port = await freePort();
  const waiting = new AbortController();
  let reports = 0;
  const isOpen = awaitPort({
    ...{ host: '127.0.0.1', port, clock: systemClock, signal: waiting.signal },
    onWaiting: () => (reports += 1),
  });
  waiting.abort();
  assert.deepEqual([await isOpen, reports], [false, 0]);
});
