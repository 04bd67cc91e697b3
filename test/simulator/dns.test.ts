import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { promises as dns } from 'node:dns';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import type { NetworkMachine } from '../../src/simulator/zone.ts';
import { startDnsServer } from '../../src/simulator/dns.ts';
import type { LifecycleState } from '../../src/simulator/targets.ts';
import { machineId } from './support.ts';

function machine(id: string, state: LifecycleState, processGroup = 'web'): NetworkMachine {
  return { id: machineId(id), app: 'shop', region: 'iad', processGroup, state, peerPort: 1 };
}

async function startResolver(
  t: TestContext,
  machines: NetworkMachine[],
): Promise<dns.Resolver & { address: string }> {
  const server = await startDnsServer(() => machines);
  t.after(() => server.close());
  const resolver = new dns.Resolver({ timeout: 1000, tries: 2 });
  resolver.setServers([server.address]);
  return Object.assign(resolver, { address: server.address });
}

const ADDRESS = '::ffff:127.0.0.1';

test('a Machine has an address while it runs, and a nonexistent name otherwise', async (t) => {
  const machines = [machine('a1', 'started'), machine('b2', 'suspended')];
  const resolver = await startResolver(t, machines);
  assert.deepEqual(await resolver.resolve6('a1.vm.shop.internal'), [ADDRESS]);
  await assert.rejects(resolver.resolve6('b2.vm.shop.internal'), { code: 'ENOTFOUND' });
  machines[1] = machine('b2', 'started');
  assert.deepEqual(await resolver.resolve6('b2.vm.shop.internal'), [ADDRESS]);
});

test('an app and a process group have the addresses of their running Machines', async (t) => {
  const machines = [
    machine('a1', 'started'),
    machine('b2', 'started', 'worker'),
    machine('c3', 'stopped'),
  ];
  const resolver = await startResolver(t, machines);
  assert.equal((await resolver.resolve6('shop.internal')).length, 2);
  assert.equal((await resolver.resolve6('web.process.shop.internal')).length, 1);
  assert.equal((await resolver.resolve6('WORKER.process.shop.internal')).length, 1);
  await assert.rejects(resolver.resolve6('cron.process.shop.internal'), { code: 'ENOTFOUND' });
});

test('vms. lists the running Machines, all.vms. the stopped ones too, never a destroyed one', async (t) => {
  const machines = [
    machine('a1', 'started'),
    machine('b2', 'stopped'),
    machine('c3', 'suspended'),
    machine('d4', 'destroyed'),
  ];
  const resolver = await startResolver(t, machines);
  assert.deepEqual(await resolver.resolveTxt('vms.shop.internal'), [['a1 iad']]);
  const all = await resolver.resolveTxt('all.vms.shop.internal');
  assert.deepEqual(all, [['a1 iad,b2 iad,c3 iad']]);
});

test('a list longer than one string is returned completely', async (t) => {
  const ids = Array.from({ length: 40 }, (_, i) => `d8901e5b6e${String(i).padStart(4, '0')}`);
  const resolver = await startResolver(
    t,
    ids.map((id) => machine(id, 'started')),
  );
  const [strings] = await resolver.resolveTxt('vms.shop.internal');
  assert.deepEqual(
    strings?.join('').split(','),
    ids.map((id) => `${id} iad`),
  );
});

test('_instances.internal lists Machine, app, address and region', async (t) => {
  const resolver = await startResolver(t, [machine('a1', 'started'), machine('b2', 'stopped')]);
  assert.deepEqual(await resolver.resolveTxt('_instances.internal'), [
    [`instance=a1,app=shop,ip=${ADDRESS},region=iad`],
  ]);
});

test('a name without records of the requested type exists, and has none', async (t) => {
  const resolver = await startResolver(t, [machine('a1', 'started')]);
  await assert.rejects(resolver.resolve4('a1.vm.shop.internal'), { code: 'ENODATA' });
  await assert.rejects(resolver.resolveTxt('other.internal'), { code: 'ENOTFOUND' });
});

test('an invalid query gets no response and has no effect', async (t) => {
  const resolver = await startResolver(t, [machine('a1', 'started')]);
  const [host = '', port = ''] = resolver.address.split(':');
  const socket = createSocket('udp4');
  t.after(() => socket.close());
  const header = Buffer.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  const junk = [
    Buffer.alloc(0),
    Buffer.from('junk'),
    header,
    Buffer.concat([header, Buffer.from([63, 1])]),
    Buffer.concat([header, Buffer.from([0xc0, 12, 0, 1, 0, 1])]),
  ];
  for (const message of junk) {
    socket.send(message, Number(port), host);
  }
  if (socket.listenerCount('message') === 0) socket.once('message', () => assert.fail('responded'));
  await Promise.race([once(socket, 'listening'), resolver.resolve6('shop.internal')]);
  assert.deepEqual(await resolver.resolve6('a1.vm.shop.internal'), [ADDRESS]);
});
