import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { test, type TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { createPrivateNetwork } from '../../src/simulator/private-network.ts';
import type { NetworkMachine } from '../../src/simulator/zone.ts';
import type { LifecycleState } from '../../src/simulator/targets.ts';
import { machineId, naming, startMachine } from './support.ts';

async function startNetwork(
  t: TestContext,
  states: Record<string, LifecycleState>,
): Promise<number> {
  const machines: NetworkMachine[] = [];
  for (const [id, state] of Object.entries(states)) {
    const { id: machine, app, region, port } = await startMachine(t, id, naming(id));
    machines.push({ id: machine, app, region, processGroup: 'app', state, peerPort: port });
  }
  const network = createPrivateNetwork({ machines: () => machines, clock: systemClock });
  t.after(() => network.close());
  return network.openPort(machineId('x9'));
}

async function requestPeer(port: number, host: string, agent: Agent, body = ''): Promise<string> {
  const headers = { host: `${host}:${port}` };
  const request = httpRequest({ port, method: 'POST', agent, headers }).end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of response) text += String(chunk);
  return text;
}

test('one port leads to every Machine, by the Host of a connection', async (t) => {
  const port = await startNetwork(t, { a1: 'started', b2: 'started' });
  for (const id of ['a1', 'b2']) {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.after(() => agent.destroy());
    assert.equal(await requestPeer(port, `${id}.vm.shop.internal`, agent, 'x'.repeat(100_000)), id);
    assert.equal(await requestPeer(port, `${id.toUpperCase()}.vm.shop.internal`, agent), id);
  }
});

test('a Machine that does not run, or is unknown, cannot be reached', async (t) => {
  const port = await startNetwork(t, { a1: 'stopped', b2: 'destroyed' });
  const agent = new Agent({ maxSockets: 1 });
  for (const host of ['a1.vm.shop.internal', 'b2.vm.shop.internal', 'c3.vm.shop.internal', 'x']) {
    await assert.rejects(requestPeer(port, host, agent), { code: 'ECONNRESET' });
  }
});

test('a client that sends nothing, or too much, before the end of the head is disconnected', async (t) => {
  const port = await startNetwork(t, { a1: 'started' });
  const idle = connect(port, '127.0.0.1');
  idle.end();
  await once(idle, 'close');
  const talkative = connect(port, '127.0.0.1');
  talkative.on('error', () => undefined);
  talkative.write('x'.repeat(20_000));
  await new Promise((resolve) => talkative.once('close', resolve));
});
