/**
 * JupyterLab's managers, with the cookies of a browser. They poll lists, which name no session, and
 * close each session that the responding Machine does not list.
 */
import assert from 'node:assert/strict';
import { KernelManager, SessionManager, type Session } from '@jupyterlab/services';
import { openBrowser } from '../../support/browser.ts';
import type { Target } from '../../support/target.ts';
import { createJupyterSettings, executeOn } from './jupyter-settings.ts';

const EXECUTIONS_OF_EACH_HALF = 3;

export async function runJupyterLab(target: Target, midway: () => Promise<void>): Promise<void> {
  const browser = openBrowser(target);
  await browser.visit('/lab');
  const serverSettings = createJupyterSettings(target.url, browser.cookies);
  const kernelManager = new KernelManager({ serverSettings });
  const sessions = new SessionManager({ serverSettings, kernelManager });
  await Promise.all([kernelManager.ready, sessions.ready]);
  const notebook = { path: 'lab.ipynb', name: 'lab', type: 'notebook' };
  const session = await sessions.startNew({ ...notebook, kernel: { name: 'counting' } });
  const { machine, pid } = await executeOn(kernelOf(session));
  let count = 1;
  const work = async (): Promise<void> => {
    for (let executions = 1; executions <= EXECUTIONS_OF_EACH_HALF; executions += 1) {
      await Promise.all([sessions.refreshRunning(), kernelManager.refreshRunning()]);
      const expected = { machine, pid, count: (count += 1) };
      assert.deepEqual(await executeOn(kernelOf(session)), expected);
    }
  };
  await work();
  await midway();
  await work();
  await sessions.shutdown(session.id);
  assert.ok(session.isDisposed);
  sessions.dispose();
  kernelManager.dispose();
}

function kernelOf(session: Session.ISessionConnection): NonNullable<typeof session.kernel> {
  assert.ok(!session.isDisposed && session.kernel, 'the list of another Machine closed it');
  return session.kernel;
}
