/** A real Chromium without a window, driven over its DevTools protocol. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import CDP from 'chrome-remote-interface';
import { findProgram, type Needed } from './needed.ts';

export const CHROMIUM: Needed<string> = {
  what: 'the status page in a browser',
  found: findProgram(['chromium', 'chromium-browser', 'google-chrome']),
  missing: 'chromium',
  howToGet: 'apt-get install chromium',
};

interface TabOptions {
  readonly width?: number;
  readonly height?: number;
  readonly isPhone?: boolean;
  readonly scheme?: 'light' | 'dark';
  readonly hasJavaScript?: boolean;
}

export interface Tab {
  /** Resolves when the page is loaded. */
  open(url: string): Promise<void>;
  /** The value of an expression in the page, which may be a promise. */
  evaluate<Value>(expression: string): Promise<Value>;
  /** Resolves when the expression is true in the page. */
  until(expression: string): Promise<void>;
  /** Resolves when the HTML of the page contains the text: also without JavaScript. */
  untilText(text: string): Promise<void>;
  /** As from a keyboard, into what has the focus. */
  type(text: string): Promise<void>;
  press(key: 'Enter' | 'Tab'): Promise<void>;
  /** URLs that the page has requested, `data:` URLs left out. */
  readonly requested: readonly string[];
  /** Errors in the console, violations of the content security policy included. */
  readonly errors: readonly string[];
  /** Into a PNG file, the whole page. */
  shoot(file: string): Promise<void>;
  close(): Promise<void>;
}

export interface Chromium {
  openTab(options?: TabOptions): Promise<Tab>;
}

/** Ends with the test. */
export async function startChromium(t: TestContext, program: string): Promise<Chromium> {
  const profile = await mkdtemp(join(tmpdir(), 'chromium-'));
  const child = spawn(
    program,
    [
      ...['--headless=new', '--remote-debugging-port=0', `--user-data-dir=${profile}`],
      // A name that is no secure context, unlike loopback addresses.
      '--host-resolver-rules=MAP sidecar.test 127.0.0.1, MAP localhost 127.0.0.1',
      ...['--no-first-run', '--disable-gpu', '--disable-dev-shm-usage', '--no-proxy-server'],
      // Its sandbox refuses root, as which tests in containers run.
      '--no-sandbox',
      'about:blank',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'], detached: true, env: { ...process.env, HOME: profile } },
  );
  const exited = once(child, 'exit');
  t.after(async () => {
    // Its processes are one group.
    if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, 'SIGKILL');
    await exited;
    child.stderr.destroy();
    await rm(profile, { recursive: true, force: true, maxRetries: 10 });
  });
  const port = await readPort(child.stderr);
  return { openTab: (options = {}) => openTab(t, port, options) };
}

async function readPort(output: NodeJS.ReadableStream): Promise<number> {
  const lines = createInterface({ input: output });
  const printed: string[] = [];
  for await (const line of lines) {
    printed.push(line);
    const [, port] = /DevTools listening on ws:\/\/127\.0\.0\.1:(\d+)\//.exec(line) ?? [];
    if (port === undefined) continue;
    lines.close();
    output.resume();
    return Number(port);
  }
  throw new Error(`chromium did not start:\n${printed.join('\n')}`);
}

async function openTab(t: TestContext, port: number, options: TabOptions): Promise<Tab> {
  const target = await CDP.New({ port });
  const client = await CDP({ port, target, local: true });
  const { Page, Runtime, Network, Log, Emulation } = client;
  const requested: string[] = [];
  const errors: string[] = [];
  Network.on('requestWillBeSent', ({ request }) => {
    if (!request.url.startsWith('data:')) requested.push(request.url);
  });
  Log.on('entryAdded', ({ entry }) => {
    if (entry.level === 'error') errors.push(`${entry.text} ${entry.url ?? ''}`.trim());
  });
  Runtime.on('exceptionThrown', ({ exceptionDetails: { text, exception } }) => {
    errors.push(exception?.description ?? text);
  });
  await Promise.all([Page.enable(), Runtime.enable(), Network.enable({}), Log.enable()]);
  await emulate(Emulation, options);
  let isClosed = false;
  const close = async (): Promise<void> => {
    if (isClosed) return;
    isClosed = true;
    await client.close();
  };
  t.after(close);
  return { ...createActions(client), requested, errors, close };
}

async function emulate(
  Emulation: CDP.Client['Emulation'],
  {
    width = 1280,
    height = 900,
    isPhone = false,
    scheme = 'light',
    hasJavaScript = true,
  }: TabOptions,
): Promise<void> {
  const deviceScaleFactor = isPhone ? 2 : 1;
  await Emulation.setDeviceMetricsOverride({ width, height, deviceScaleFactor, mobile: isPhone });
  const features = [{ name: 'prefers-color-scheme', value: scheme }];
  await Emulation.setEmulatedMedia({ features });
  // All tabs are visible, as in windows side by side: a hidden page is not refreshed.
  await Emulation.setFocusEmulationEnabled({ enabled: true });
  if (!hasJavaScript) await Emulation.setScriptExecutionDisabled({ value: true });
}

type Actions = Omit<Tab, 'requested' | 'errors' | 'close'>;

function createActions(client: CDP.Client): Actions {
  const { Page, Runtime, Input } = client;
  const evaluate = async <Value>(expression: string): Promise<Value> => {
    const evaluated = await Runtime.evaluate({
      ...{ expression, awaitPromise: true, returnByValue: true },
    });
    const { exceptionDetails, result } = evaluated;
    assert.equal(exceptionDetails, undefined, exceptionDetails?.exception?.description);
    return result.value as Value;
  };
  return {
    open: async (url) => {
      const loaded = Page.loadEventFired();
      await Page.navigate({ url });
      await loaded;
    },
    evaluate,
    until: (expression) =>
      evaluate(`new Promise((resolve) => {
        const check = () => ((${expression}) ? resolve() : setTimeout(check, 20));
        check();
      })`),
    untilText: async (text) => {
      for (;;) {
        // Between two pages there is none.
        const page = await readHtml(client).catch(() => '');
        if (page.includes(text)) return;
        await setTimeout(20);
      }
    },
    type: (text) => Input.insertText({ text }),
    press: async (key) => {
      const text = key === 'Enter' ? '\r' : '';
      const code = { key, code: key, windowsVirtualKeyCode: key === 'Enter' ? 13 : 9, text };
      await Input.dispatchKeyEvent({ type: 'keyDown', ...code });
      await Input.dispatchKeyEvent({ type: 'keyUp', ...code });
    },
    shoot: async (file) => {
      const { data } = await Page.captureScreenshot({ format: 'png', captureBeyondViewport: true });
      await writeFile(file, Buffer.from(data, 'base64'));
    },
  };
}

async function readHtml({ DOM }: CDP.Client): Promise<string> {
  const { root } = await DOM.getDocument({});
  return (await DOM.getOuterHTML({ nodeId: root.nodeId })).outerHTML;
}
