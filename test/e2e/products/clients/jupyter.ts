/**
 * JupyterLab's own client library, without its managers: these poll lists of sessions and kernels,
 * which name no session, and take what the responding Machine does not have for ended.
 */
import assert from 'node:assert/strict';
import { KernelAPI, KernelConnection, SessionAPI } from '@jupyterlab/services';
import type { Counted } from '../../support/mcp-client.ts';
import type { Target } from '../../support/target.ts';
import { createJupyterSettings, executeOn, type Settings } from './jupyter-settings.ts';

const EXECUTIONS_OF_EACH_HALF = 3;
const OPTIONS = { path: 'counting.ipynb', name: 'counting', type: 'notebook' };

export async function runJupyter({ url }: Target, midway: () => Promise<void>): Promise<void> {
  const settings = createJupyterSettings(url);
  const session = await SessionAPI.startSession(
    { ...OPTIONS, kernel: { name: 'counting' } },
    settings,
  );
  await runSession(session.id, settings);
  await midway();
  await runSession(session.id, settings);
  // A session changes its kernel; the new id is only in the response to that.
  await SessionAPI.updateSession({ id: session.id, kernel: { name: 'counting' } }, settings);
  await runSession(session.id, settings);
  await SessionAPI.shutdownSession(session.id, settings);
  await assert.rejects(SessionAPI.getSessionModel(session.id, settings), /does not exist/);
  await runLoneKernel(settings);
}

/** Each execution over a WebSocket of its own, between requests over HTTP. */
async function runSession(id: string, settings: Settings): Promise<void> {
  const { kernel } = await SessionAPI.getSessionModel(id, settings);
  assert.ok(kernel);
  const { machine, pid, count } = await execute(kernel, settings);
  for (let executions = 1; executions <= EXECUTIONS_OF_EACH_HALF; executions += 1) {
    assert.equal((await KernelAPI.getKernelModel(kernel.id, settings))?.id, kernel.id);
    const expected = { machine, pid, count: count + executions };
    assert.deepEqual(await execute(kernel, settings), expected);
  }
}

async function runLoneKernel(settings: Settings): Promise<void> {
  const kernel = await KernelAPI.startNew({ name: 'counting' }, settings);
  const { machine, pid } = await execute(kernel, settings);
  await KernelAPI.interruptKernel(kernel.id, settings);
  assert.deepEqual(await execute(kernel, settings), { machine, pid, count: 2 });
  await KernelAPI.shutdownKernel(kernel.id, settings);
  assert.equal(await KernelAPI.getKernelModel(kernel.id, settings), undefined);
}

async function execute(model: KernelAPI.IModel, serverSettings: Settings): Promise<Counted> {
  const connection = new KernelConnection({ model, serverSettings });
  try {
    return await executeOn(connection);
  } finally {
    connection.dispose();
  }
}
