/**
 * The status page in a real Chromium. With `STATUS_PAGE_PICTURES=DIRECTORY`, pictures of it are written there, for
 * whoever changes how it looks.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { parseTypedSessionId, sessionKeyOf } from '../../src/session.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import { openRpcSession } from '../e2e/scenarios/rpc.ts';
import { atFirstOn } from '../e2e/scenarios/visitors.ts';
import { startFleet, type Fleet } from '../e2e/support/fleet.ts';
import { until } from '../e2e/support/until.ts';
import { createTestClock } from '../support/clock.ts';
import { CHROMIUM, startChromium, type Chromium, type Tab } from '../support/chromium.ts';
import { machineId } from '../support/ids.ts';
import { skipUnlessFound } from '../support/needed.ts';
import { openAdmin, STATUS, TOKEN } from './support.ts';

const PHONE = { width: 390, height: 844, isPhone: true };
const TIMEOUT = { timeout: 110_000 };

async function picture(tab: Tab, name: string): Promise<void> {
  const directory = process.env.STATUS_PAGE_PICTURES;
  if (directory !== undefined) await tab.shoot(join(directory, `${name}.png`));
}

async function fill(tab: Tab, name: 'token' | 'id', text: string): Promise<void> {
  await tab.evaluate(`document.getElementById('${name}').focus()`);
  await tab.evaluate(`document.getElementById('${name}').value = ''`);
  await tab.type(text);
}

const RESULT = `document.getElementById('result').textContent`;

skipUnlessFound(CHROMIUM, (program) => {
  describe('the status page of three Machines', () => {
    testFleet(program);
  });
  describe('the look-up in a browser', () => {
    testLookup(program);
  });
});

function testFleet(program: string): void {
  test(
    'shows new requests and a Machine that stops, and loads nothing else',
    TIMEOUT,
    async (t) => {
      const { fleet, chromium, url } = await openFleetPage(t, program);
      const [shown, other] = fleet.machines;
      assert.ok(shown && other);
      const tab = await chromium.openTab();
      await tab.open(url);
      await tab.until(`document.body.innerText.includes('3 of 3 respond')`);
      const { id } = await openRpcSession(fleet.target, atFirstOn(other.id));
      await atFirstOn(shown.id)(`${fleet.target.url}/rpc/call?session_id=${id}`);
      await tab.until(`document.body.innerText.includes('sent to its Machine by Fly Proxy')`);
      await takePictures(chromium, url, 'healthy');

      await other.crash();
      await tab.until(`document.body.innerText.includes('2 of 3 respond')`);
      // Silent at first: that it has stopped is known by the next list of Machines.
      const row = `${other.id}\\s+stopped\\s+deployed, not running`;
      await tab.until(`/${row}/.test(document.body.innerText)`);
      const text = await tab.evaluate<string>('document.body.innerText');
      assert.ok(!text.includes(id) && !text.includes('127.0.0.1'));
      await takePictures(chromium, url, 'stopped');
      assert.deepEqual(tab.errors, []);
      assert.deepEqual([...new Set(tab.requested)], [url]);
    },
  );

  test('says when the sidecar does not respond, and goes on when it does', TIMEOUT, async (t) => {
    const { fleet, chromium, url } = await openFleetPage(t, program);
    const [machine] = fleet.machines;
    assert.ok(machine);
    const tab = await chromium.openTab();
    await tab.open(url);
    await tab.until(`document.querySelector('.live').textContent.startsWith('Live')`);
    await machine.stopSidecar();
    await tab.until(`document.querySelector('.live').textContent.startsWith('No response since')`);
    await picture(tab, 'no-response');
    await machine.startSidecar();
    await tab.until(`document.querySelector('.live').textContent.startsWith('Live')`);
  });

  test('ten tabs leave the admin listener as it was', TIMEOUT, async (t) => {
    const { chromium, url } = await openFleetPage(t, program);
    const tabs = await Promise.all(Array.from({ length: 10 }, () => chromium.openTab()));
    await Promise.all(tabs.map((tab) => tab.open(url)));
    await Promise.all(
      tabs.map((tab) => tab.until(`document.body.innerText.includes('3 of 3 respond')`)),
    );
    // Each reads the page several times.
    await until(() =>
      tabs.filter(({ requested }) => requested.length < 4).map(() => 'a tab waits'),
    );
    assert.equal((await fetch(`${url}livez`)).status, 200);
    assert.deepEqual(
      tabs.flatMap(({ errors }) => errors),
      [],
    );
  });
}

async function openFleetPage(t: TestContext, program: string) {
  const env = { ADMIN_TOKEN: TOKEN, SESSION_PROTOCOLS: 'auto' };
  const fleet: Fleet = await startFleet(t, { hints: false, env });
  const [machine] = fleet.machines;
  assert.ok(machine);
  const chromium = await startChromium(t, program);
  return { fleet, chromium, url: `http://127.0.0.1:${machine.ports.admin}/` };
}

async function takePictures(chromium: Chromium, url: string, name: string): Promise<void> {
  if (process.env.STATUS_PAGE_PICTURES === undefined) return;
  for (const scheme of ['light', 'dark'] as const)
    for (const [device, options] of Object.entries({ desktop: {}, phone: PHONE })) {
      const tab = await chromium.openTab({ ...options, scheme });
      await tab.open(url);
      await tab.until(`document.querySelector('.live').textContent.startsWith('Live')`);
      await picture(tab, `${name}-${device}-${scheme}`);
      await tab.close();
    }
}

/** Around the sizes of a block of SHA-256, and with all that `sessionKeyOf` treats in its own way. */
const IDS = [
  ...[1, 54, 55, 56, 63, 64, 65, 1_000].map((length) => 'a'.repeat(length)),
  ...['a b+c', 'é✓𝄞', '%20', 'x'.repeat(31) + '=='],
];

function testLookup(program: string): void {
  for (const [where, host] of [
    ['on localhost', 'localhost'],
    // As the private address of a Machine: crypto.subtle does not exist there.
    ['at a name without https', 'sidecar.test'],
  ] as const) {
    test(`finds sessions of ids of all kinds ${where}, and sends none`, TIMEOUT, async (t) => {
      const { url } = await openStore(t, host);
      const chromium = await startChromium(t, program);
      const tab = await chromium.openTab();
      await tab.open(url);
      const isSecure = await tab.evaluate<boolean>('isSecureContext');
      assert.equal(isSecure, host === 'localhost');
      await fill(tab, 'token', TOKEN);
      for (const id of [...IDS, `${IDS[0] ?? ''}~b4caa283329657`]) {
        await fill(tab, 'id', id);
        await tab.press('Enter');
        await tab.until(`/belongs to|No such|fails|wrong/.test(${RESULT})`);
        const result = await tab.evaluate<string>(RESULT);
        const key = keyOfTyped(id.replace(/~.*/, ''));
        assert.ok(result.startsWith(`Session ${key.slice(0, 8)}… belongs to Machine aa`), result);
        await tab.evaluate(`${RESULT} = ''`);
      }
      const sent = tab.requested.filter((each) => each.includes('/sessions/'));
      for (const each of sent) assert.match(each, /\/sessions\/[0-9a-f]{32}$/);
      assert.deepEqual(
        tab.errors.filter((error) => !error.includes('404')),
        [],
      );
    });
  }

  test('a refresh keeps the typed text, the focus and the scroll position', TIMEOUT, async (t) => {
    const { url, setConflicts } = await openStore(t, 'localhost');
    const chromium = await startChromium(t, program);
    const tab = await chromium.openTab({ width: 600, height: 400 });
    await tab.open(url);
    await fill(tab, 'id', 'half an i');
    await tab.evaluate('scrollTo(0, 700)');
    const at = await tab.evaluate<number>('scrollY');
    assert.ok(at > 0);
    for (const count of [7, 8]) {
      setConflicts(count);
      await tab.until(`document.body.innerText.includes('${count} conflicts')`);
    }
    await tab.type('d');
    const after = await tab.evaluate<unknown[]>(
      `[scrollY, document.activeElement.id, document.getElementById('id').value]`,
    );
    assert.deepEqual(after, [at, 'id', 'half an id']);
  });

  test('says that the token is wrong', TIMEOUT, async (t) => {
    const { url } = await openStore(t, 'localhost');
    const chromium = await startChromium(t, program);
    const tab = await chromium.openTab();
    await tab.open(url);
    await fill(tab, 'token', 'another-token-than-that');
    await fill(tab, 'id', 'a');
    await tab.press('Enter');
    await tab.until(`${RESULT} === 'The token is wrong.'`);
  });

  test('works without JavaScript, by a form', TIMEOUT, async (t) => {
    const { url } = await openStore(t, 'localhost');
    const chromium = await startChromium(t, program);
    const tab = await chromium.openTab({ hasJavaScript: false });
    await tab.open(url);
    await picture(tab, 'without-javascript');
    await fill(tab, 'token', TOKEN);
    await fill(tab, 'id', 'a');
    await tab.press('Enter');
    const key = keyOfTyped('a').slice(0, 8);
    await tab.untilText(`Session ${key}… belongs to Machine aa`);
    assert.deepEqual([...new Set(tab.requested)], [url]);
    assert.deepEqual(tab.errors, []);
  });
}

function keyOfTyped(text: string) {
  const id = parseTypedSessionId(text);
  assert.ok(id !== undefined);
  return sessionKeyOf(id);
}

async function openStore(t: TestContext, host: string) {
  const clock = createTestClock();
  const store = createMemoryStore({ clock, limits: { maxSessions: 100, maxAgeMs: 0 } });
  for (const id of IDS) {
    const binding = { machine: machineId('aa'), origin: 'learned', ttlMs: 60_000 } as const;
    await store.claim({ key: keyOfTyped(id), ...binding });
  }
  let conflicts = 0;
  const status = () => Promise.resolve({ ...STATUS, sessions: { ...STATUS.sessions, conflicts } });
  const { admin } = await openAdmin(t, { store, clock, status });
  return {
    url: `http://${host}:${admin.port}/`,
    setConflicts: (count: number) => void (conflicts = count),
  };
}
