import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { promises as dns } from 'node:dns';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/clock.ts';
import { parseReplayFailure } from '../../src/fly.ts';
import type { SimulatedMachine } from '../../src/simulator/machine.ts';
import {
  startSimulation,
  type Simulation,
  type SimulationOptions,
} from '../../src/simulator/simulation.ts';
import { sendRequest } from './support.ts';

const STAND_IN = [
  process.execPath,
  ...process.execArgv,
  fileURLToPath(new URL('stand-in.ts', import.meta.url)),
];

const WITHOUT_SIDECARS = {
  appCommand: STAND_IN,
  env: process.env,
  machineCount: 2,
  clock: systemClock,
  random: Math.random,
} satisfies SimulationOptions;

const OPTIONS = { ...WITHOUT_SIDECARS, sidecarCommand: STAND_IN } satisfies SimulationOptions;

async function startTestSimulation(
  t: TestContext,
  options: Partial<SimulationOptions> = {},
): Promise<Simulation> {
  const simulation = await startSimulation({ ...OPTIONS, ...options });
  t.after(() => simulation.close());
  return simulation;
}

interface StandInResponse {
  readonly machine: string;
  readonly pid: number;
  readonly count: number;
  readonly failed?: string;
  readonly env: Record<string, string>;
}

async function requestOwner(url: string, owner?: string): Promise<StandInResponse> {
  const response = await sendRequest(url, {
    headers: owner === undefined ? {} : { 'x-owner': owner },
  });
  assert.equal(response.status, 200, response.body);
  return JSON.parse(response.body) as StandInResponse;
}

function pair(simulation: Simulation): [SimulatedMachine, SimulatedMachine] {
  const [a, b] = simulation.machines;
  assert.ok(a && b);
  return [a, b];
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('the Machines of a simulation', async (t) => {
  const simulation = await startTestSimulation(t);
  const { url } = simulation;
  const [a, b] = pair(simulation);
  const resolver = new dns.Resolver();
  resolver.setServers([simulation.dnsAddress]);

  await t.test('have ids like those of Fly, and the environment that Fly sets', async () => {
    const { env } = await requestOwner(url, a.id);
    assert.match(a.id, /^[1-9a-f][0-9a-f]{13}$/);
    assert.equal(env.FLY_MACHINE_ID, a.id);
    assert.equal(env.FLY_ALLOC_ID, a.id);
    assert.equal(env.FLY_APP_NAME, a.app);
    assert.equal(env.FLY_REGION, a.region);
    assert.equal(env.UPSTREAM_URL, `http://127.0.0.1:${a.ports.app}`);
    const ownResolver = new dns.Resolver();
    ownResolver.setServers([env.FLEET_RESOLVER ?? '']);
    const name = `${a.id}.vm.${a.app}.internal`;
    assert.deepEqual(await ownResolver.resolve6(name), await resolver.resolve6(name));
  });

  await t.test('receive requests and replays through the edge', async () => {
    for (const owner of [a.id, b.id, a.id, b.id]) {
      assert.equal((await requestOwner(url, owner)).machine, owner);
    }
    assert.ok(simulation.requests.some(({ replays }) => replays === 1));
  });

  await t.test('reach each other over the private network', async () => {
    const { env } = await requestOwner(url, a.id);
    const headers = { host: `${b.id}.vm.${b.app}.internal` };
    const response = await sendRequest(`http://127.0.0.1:${env.PEER_DIAL_PORT ?? ''}`, { headers });
    assert.equal(response.body, b.id);
  });

  await t.test('keep their memory when suspended, and are resumed by a request', async () => {
    const before = await requestOwner(url, b.id);
    b.suspend();
    assert.deepEqual(await resolver.resolveTxt(`vms.${b.app}.internal`), [[`${a.id} ${a.region}`]]);
    const after = await requestOwner(url, b.id);
    assert.deepEqual([after.pid, after.count], [before.pid, before.count + 1]);
    assert.equal(b.state, 'started');
  });

  await t.test('lose their memory when stopped, and are started by a request', async () => {
    const before = await requestOwner(url, b.id);
    await b.stop();
    assert.equal(b.state, 'stopped');
    assert.ok(!isRunning(before.pid));
    const after = await requestOwner(url, b.id);
    assert.equal(after.count, 1);
    assert.notEqual(after.pid, before.pid);
  });

  await t.test('keep their app when the sidecar is restarted', async () => {
    const appUrl = `http://127.0.0.1:${b.ports.app}`;
    const [sidecar, app] = [await requestOwner(url, b.id), await requestOwner(appUrl)];
    await b.restartSidecar();
    assert.notEqual((await requestOwner(url, b.id)).pid, sidecar.pid);
    assert.equal((await requestOwner(appUrl)).count, app.count + 1);
  });

  await t.test('accept requests after a sidecar was killed and started again', async () => {
    await b.stopSidecar('SIGKILL');
    const passedOver = await requestOwner(url);
    assert.equal(passedOver.machine, a.id);
    await b.startSidecar();
    assert.equal((await requestOwner(url, b.id)).machine, b.id);
  });

  await t.test('can be cut off from the edge, from each other and from the resolver', async () => {
    const { env } = await requestOwner(url, a.id);
    const callFromA = (): Promise<string> =>
      sendRequest(`http://127.0.0.1:${env.PEER_DIAL_PORT ?? ''}`, {
        headers: { host: `${b.id}.vm.${b.app}.internal` },
      }).then(({ body }) => body);
    const resolverOfA = new dns.Resolver();
    resolverOfA.setServers([env.FLEET_RESOLVER ?? '']);
    const list = (resolverOf: dns.Resolver): Promise<string[][]> =>
      resolverOf.resolveTxt(`vms.${a.app}.internal`);
    simulation.network.isolate(b.id, 'refuse');
    simulation.network.breakResolver('failing', a.id);
    assert.equal((await requestOwner(url)).machine, a.id);
    await assert.rejects(callFromA(), { code: 'ECONNRESET' });
    await assert.rejects(list(resolverOfA), { code: 'ESERVFAIL' });
    assert.equal((await list(resolver)).length, 1);
    simulation.network.heal();
    assert.equal((await requestOwner(url, b.id)).machine, b.id);
    assert.equal(await callFromA(), b.id);
    assert.deepEqual(await list(resolverOfA), await list(resolver));
  });

  await t.test('crash immediately, keep their volume, and are started by a request', async () => {
    const before = await requestOwner(url, b.id);
    await b.crash();
    assert.ok(!isRunning(before.pid));
    assert.equal(b.state, 'stopped');
    const volume = before.env.SESSION_STORE_PATH?.replace(/\/[^/]*$/, '') ?? '';
    writeFileSync(`${volume}/kept`, 'yes');
    const after = await requestOwner(url, b.id);
    assert.equal(after.count, 1);
    assert.equal(after.env.SESSION_STORE_PATH, before.env.SESSION_STORE_PATH);
    assert.ok(existsSync(`${volume}/kept`));
  });

  await t.test('get a new peer with its own id, ports and volume', async () => {
    const added = await simulation.addMachine('nrt');
    const { env } = await requestOwner(url, added.id);
    assert.equal(env.FLY_MACHINE_ID, added.id);
    assert.equal(env.FLY_REGION, 'nrt');
    assert.ok(existsSync(env.SESSION_STORE_PATH?.replace(/\/[^/]*$/, '') ?? ''));
    assert.match((await resolver.resolveTxt(`vms.${a.app}.internal`)).join(), new RegExp(added.id));
    await added.destroy();
  });

  await t.test('keep id and volume, but no memory, in a rolling deploy', async () => {
    const before = [await requestOwner(url, a.id), await requestOwner(url, b.id)];
    await simulation.deploy('rolling');
    const rolled = [await requestOwner(url, a.id), await requestOwner(url, b.id)];
    for (const [i, { pid, env, count }] of rolled.entries()) {
      assert.notEqual(pid, before[i]?.pid);
      assert.equal(env.SESSION_STORE_PATH, before[i]?.env.SESSION_STORE_PATH);
      assert.equal(count, 1);
    }
  });

  await t.test('are permanently gone when destroyed', async () => {
    const { pid } = await requestOwner(url, b.id);
    await b.destroy();
    assert.ok(!isRunning(pid));
    const response = await requestOwner(url, b.id);
    assert.equal(response.machine, a.id);
    assert.equal(parseReplayFailure(response.failed ?? '').reason, 'no_candidate');
    const listed = await resolver.resolveTxt(`all.vms.${b.app}.internal`);
    assert.deepEqual(listed, [[`${a.id} ${a.region}`]]);
    await assert.rejects(b.start(), /is destroyed: cannot start/);
  });
});

test('a bluegreen deploy leaves as many Machines, of the same regions, with new ids', async (t) => {
  const simulation = await startTestSimulation(t);
  const old = pair(simulation);
  await simulation.deploy('bluegreen');
  const left = simulation.machines.filter(({ state }) => state !== 'destroyed');
  assert.deepEqual(
    left.map(({ region, state }) => [region, state]).sort(),
    old.map(({ region }) => [region, 'started']).sort(),
  );
  assert.ok(left.every(({ id }) => old.every((machine) => machine.id !== id)));
  for (const { id } of left) assert.equal((await requestOwner(simulation.url, id)).machine, id);
});

test('a Machine that cannot be added is destroyed, and the error reports it', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'simulation-'));
  t.after(() => rm(directory, { recursive: true }));
  const mark = join(directory, 'fail');
  const sidecarEnv = { FAILS_WITH: mark };
  const simulation = await startTestSimulation(t, { machineCount: 1, sidecarEnv });
  writeFileSync(mark, '');
  await assert.rejects(simulation.addMachine(), /the sidecar ended with code 3/);
  assert.deepEqual(
    simulation.machines.map(({ state }) => state),
    ['started', 'destroyed'],
  );
});

test('a Machine that is destroyed while it starts does not come up', async (t) => {
  const simulation = await startTestSimulation(t);
  const [, b] = pair(simulation);
  await b.crash();
  const starting = b.start();
  await Promise.all([b.destroy(), assert.rejects(starting, /ended with SIGKILL/)]);
  assert.equal(b.state, 'destroyed');
});

test('without sidecars the edge connects directly to the apps', async (t) => {
  const simulation = await startSimulation(WITHOUT_SIDECARS);
  t.after(() => simulation.close());
  const [a] = pair(simulation);
  assert.equal(a.ports.public, a.ports.app);
  assert.equal((await requestOwner(simulation.url, a.id)).env.UPSTREAM_URL, undefined);
});

test('a process that fails to start is reported with its output, and nothing keeps running', async () => {
  const pids: number[] = [];
  const failing = startSimulation({
    ...OPTIONS,
    sidecarEnv: { FAILS: 'yes' },
    onLine: (_machine, _source, line) => pids.push(Number(line)),
  });
  await assert.rejects(failing, /the sidecar ended with code 3\nno luck today/);
  const apps = pids.filter((pid) => pid > 0);
  assert.ok(apps.every((pid) => !isRunning(pid)));
});

test('an app that ends is reported at once, though the app of another Machine never listens', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'simulation-'));
  t.after(() => rm(directory, { recursive: true }));
  // As with a port of its own, which only one app gets.
  const script = 'mkdir "$0" || exit 3; exec sleep 1000';
  const failing = startSimulation({
    ...WITHOUT_SIDECARS,
    appCommand: ['sh', '-c', script, join(directory, 'taken')],
    // The timeout for the other app never fires.
    clock: { ...systemClock, after: () => () => undefined },
  });
  await assert.rejects(failing, /the app ended with code 3/);
});

test('the error for a missing command names it', async () => {
  const failing = startSimulation({ ...OPTIONS, appCommand: ['no-such-command'] });
  await assert.rejects(failing, /cannot start no-such-command/);
});

test('reports a port in use', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.after(() => taken.close());
  const { port } = taken.address() as AddressInfo;
  await assert.rejects(startSimulation({ ...OPTIONS, edge: { port } }), { code: 'EADDRINUSE' });
});

test('close ends every process, suspended ones too, and removes the volumes', async () => {
  const simulation = await startSimulation(OPTIONS);
  const [a, b] = pair(simulation);
  const seen = [await requestOwner(simulation.url, a.id), await requestOwner(simulation.url, b.id)];
  const volume = seen[0]?.env.SESSION_STORE_PATH?.replace(/\/[^/]*$/, '') ?? '';
  assert.ok(existsSync(volume));
  b.suspend();
  await simulation.close();
  assert.deepEqual(
    seen.map(({ pid }) => isRunning(pid)),
    [false, false],
  );
  assert.ok(!existsSync(volume));
});

test('a simulator that is killed leaves no process behind, not even a suspended one', async (t) => {
  const script = fileURLToPath(new URL('killed-simulator.ts', import.meta.url));
  const simulator = spawn(process.execPath, [...process.execArgv, script, ...STAND_IN], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => simulator.kill('SIGKILL'));
  const pids: number[] = [];
  for await (const line of createInterface({ input: simulator.stdout })) {
    if (line === 'suspended') break;
    pids.push(Number(line));
  }
  assert.equal(pids.length, 4);
  assert.ok(pids.every(isRunning));
  simulator.kill('SIGKILL');
  await once(simulator, 'exit');
  await until(() => !pids.some(isRunning));
});

/** Waits for an effect of another process; fails after ten seconds. */
async function until(isSo: () => boolean): Promise<void> {
  for (let tries = 0; !isSo(); tries += 1) {
    assert.ok(tries < 500, 'it did not come true in ten seconds');
    await systemClock.sleep(20);
  }
}
