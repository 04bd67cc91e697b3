/**
 * A Machine that is not listed yet, and disconnects while the list is read again: its forward was still
 * served, so a stream of the app, or an endless upload, stayed open forever.
 */
import { BufferBudget } from '../../../src/http/buffers.ts';
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parseMachineId } from '../../../src/session.ts';
import { systemClock } from '../../../src/clock.ts';
import { DEFAULT_LIMITS } from '../../../src/http/limits.ts';
import { Sweep } from '../../../src/http/sweep.ts';
import { nullLogger } from '../../../src/observability/log.ts';
import { nullMetrics } from '../../../src/observability/metrics.ts';
import { createListeners } from '../../../src/proxy/listeners.ts';
import type { ProxyParts } from '../../../src/proxy/proxy-parts.ts';
import { RequestRecorder } from '../../../src/proxy/request-record.ts';
import { createVia } from '../../../src/proxy/attempt-request.ts';
import { eventually, TRAILERS } from '../../http/support.ts';
import { openClient } from '../../support/raw.ts';
import { BOUNDED, requestText } from './support.ts';

interface Setup {
  readonly port: number;
  readonly sweep: Sweep;
  /** How often the list was read. */
  readonly readCount: () => number;
  /** Ends the read of the list, which now has the Machine. */
  readonly finishRead: () => void;
  readonly servedCount: () => number;
}

async function setUp(t: TestContext): Promise<Setup> {
  const self = parseMachineId('m1');
  assert.ok(self);
  const listRead = Promise.withResolvers<undefined>();
  let [isKnown, readCount, servedCount] = [false, 0, 0];
  const route = (): Promise<never> => {
    servedCount += 1;
    return new Promise(() => undefined);
  };
  const onFault = (error: unknown): void => assert.fail(String(error));
  const via = createVia(self);
  const sweep = new Sweep(systemClock);
  const { peer } = createListeners({
    self,
    proxy: {
      router: { route },
      via,
      startGate: { isOpen: true },
      recorder: new RequestRecorder({
        ...{ clock: systemClock, logger: nullLogger, metrics: nullMetrics },
      }),
      clock: systemClock,
      createRequestId: () => 'r1',
      onFault,
    } as unknown as ProxyParts,
    peerService: () => undefined,
    isPeerAddress: () => isKnown,
    isAddressOf: () => isKnown,
    findNewPeers: () => {
      readCount += 1;
      return listRead.promise;
    },
    budget: new BufferBudget(Infinity),
    limits: DEFAULT_LIMITS,
    namesRead: [],
    http: {
      protectedNames: new Set(),
      trailers: TRAILERS,
      sweep,
      clock: systemClock,
      isEnding: () => false,
      onFault,
      onRefusedConnection: () => undefined,
    },
  });
  peer.server.listen(0, '127.0.0.1');
  await once(peer.server, 'listening');
  t.after(() => peer.close(0));
  return {
    port: (peer.server.address() as AddressInfo).port,
    sweep,
    readCount: () => readCount,
    finishRead: () => {
      isKnown = true;
      listRead.resolve(undefined);
    },
    servedCount: () => servedCount,
  };
}

const FORWARD = requestText(
  'GET',
  '/v1/forward',
  'x-fly-affinity-target: /',
  'x-fly-affinity-machine: m1',
);

/** Until the list is being read for it. */
async function sendForward(t: TestContext) {
  const setup = await setUp(t);
  const client = await openClient(t, setup.port);
  client.send(FORWARD);
  await eventually(() => setup.readCount() === 1);
  return { setup, client };
}

test(
  'the forward of a Machine that is found when the list is read again is served',
  BOUNDED,
  async (t) => {
    const { setup } = await sendForward(t);
    setup.finishRead();
    await eventually(() => setup.servedCount() === 1);
  },
);

test(
  'the forward of a Machine that disconnects before the list is read is not served',
  BOUNDED,
  async (t) => {
    const { setup, client } = await sendForward(t);
    client.socket.resetAndDestroy();
    await eventually(() => setup.sweep.size === 0);
    setup.finishRead();
    await nextTurn();
    assert.equal(setup.servedCount(), 0);
  },
);
