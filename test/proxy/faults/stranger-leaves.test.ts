/**
 * A Machine that is not on the list yet, and disconnects while the list is read again: its forward was
 * served for nobody, so a stream of the app, or an upload that never ended, stayed open for ever.
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
import type { ProxyParts } from '../../../src/proxy/proxied-request.ts';
import { RequestRecorder } from '../../../src/proxy/request-record.ts';
import { createVia } from '../../../src/proxy/upstream-request.ts';
import { eventually, TRAILERS } from '../../http/support.ts';
import { BOUNDED, openClient, requestText } from './support.ts';

interface Scene {
  readonly port: number;
  readonly sweep: Sweep;
  /** How often the list was asked for. */
  readonly lookCount: () => number;
  /** The list is read, and has the stranger on it. */
  readonly meet: () => void;
  readonly servedCount: () => number;
}

async function setUp(t: TestContext): Promise<Scene> {
  const self = parseMachineId('m1');
  assert.ok(self);
  const looked = Promise.withResolvers<undefined>();
  let [isKnown, lookCount, servedCount] = [false, 0, 0];
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
      lookCount += 1;
      return looked.promise;
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
    lookCount: () => lookCount,
    meet: () => {
      isKnown = true;
      looked.resolve(undefined);
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

test('the forward of a stranger that is met by another look is served', BOUNDED, async (t) => {
  const scene = await setUp(t);
  const client = await openClient(t, scene.port);
  client.send(FORWARD);
  await eventually(() => scene.lookCount() === 1);
  scene.meet();
  await eventually(() => scene.servedCount() === 1);
});

test('that of one which has disconnected meanwhile is not', BOUNDED, async (t) => {
  const scene = await setUp(t);
  const client = await openClient(t, scene.port);
  client.send(FORWARD);
  await eventually(() => scene.lookCount() === 1);
  client.socket.resetAndDestroy();
  await eventually(() => scene.sweep.size === 0);
  scene.meet();
  await nextTurn();
  assert.equal(scene.servedCount(), 0);
});
