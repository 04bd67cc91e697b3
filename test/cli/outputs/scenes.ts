/** What a command needs around it to run within this process. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { runCommand } from '../../../src/cli/commands.ts';
import { systemClock, type Clock } from '../../../src/clock.ts';
import { until } from '../../fleet/support.ts';
import { createPlace } from '../../store/place.ts';
import { openFleet } from '../../support/fleet.ts';
import { machineId } from '../../support/ids.ts';
import { serveApp } from '../../support/sidecar.ts';
import { runInProcess, type RunOptions } from '../in-process.ts';
import { bindingOf, documentOf } from '../sessions/support.ts';
import { parseCommandLine } from './shown.ts';

/** Resolves to all that the command prints. */
export type Scene = (t: TestContext, command: string) => Promise<string>;

async function print(command: string, options: RunOptions = {}): Promise<string> {
  const { name, args, lineCount } = parseCommandLine(command);
  const { screen } = await runInProcess(runCommand, [name, ...args], options);
  return screen.split(/(?<=\n)/, lineCount).join('');
}

export const anywhere: Scene = (_, command) => print(command);

export type Files = Readonly<Record<string, string>>;

/** In a folder with these files. `before`: commands that have run there. */
export function inFolder(files: Files, before: readonly string[] = []): Scene {
  return async (t, command) => {
    await enterFolder(t, files);
    for (const earlier of before) await print(earlier);
    return print(command);
  };
}

/** Resolves to the path of the new folder, which is the current one until the test ends. */
async function enterFolder(t: TestContext, files: Files): Promise<string> {
  const path = (await createPlace(t)).path('app');
  await mkdir(path);
  for (const [name, text] of Object.entries(files)) await writeFile(join(path, name), text);
  const previous = process.cwd();
  t.after(() => process.chdir(previous));
  process.chdir(path);
  return path;
}

const NOW = Date.UTC(2026, 0, 1, 12);
const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
const clock: Clock = { ...systemClock, now: () => NOW };
const [OWNER, OTHER] = ['148e21ea7e5689', '3287e444b64708'] as const;

const SESSIONS = [
  bindingOf('a', used(2 * HOUR_MS, OWNER)),
  bindingOf('b', { ...used(40 * MINUTE_MS, OWNER), origin: 'adopted' }),
  bindingOf('c', { ...used(7 * MINUTE_MS, OTHER), generation: 1 }),
];

function used(ageMs: number, machine: string) {
  const times = { createdAt: NOW - ageMs, expiresAt: NOW + 10 * MINUTE_MS };
  return { ...times, machine: machineId(machine), generation: 1 };
}

/** On a Machine whose store has the first `count` of three sessions; `sessions.jsonl` has them all. */
export function withSessions(count = SESSIONS.length): Scene {
  return async (t, command) => {
    const files = {
      'sessions.jsonl': documentOf(SESSIONS),
      'some.jsonl': documentOf(SESSIONS.slice(0, count)),
    };
    const path = await enterFolder(t, files);
    const options = { clock, env: { SESSION_STORE_PATH: join(path, 'session-store.sqlite') } };
    await print('fly-affinity sessions import some.jsonl', options);
    return (await print(command, options)).replaceAll(`${path}/`, '/data/');
  };
}

const ID = 's3cr3t-id';

/** On a Machine that has a copy of the session of another one, with the session's id on standard input. */
export const besideOwner: Scene = async (t, command) => {
  const fleet = await openFleet(t, OWNER, OTHER);
  const app = await serveApp(t, (_, res) => res.writeHead(200, { 'mcp-session-id': ID }).end());
  const env = { ADMIN_TOKEN: 'a-token-of-an-operator' };
  const [owner, other] = [await fleet.start(OWNER, app, env), await fleet.start(OTHER, app, env)];
  await fetch(`${owner.url}/mcp`, { method: 'POST' });
  await until(async () => (await other.rowCount()) === 1);
  const ADMIN_PORT = String(other.sidecar.ports.admin);
  return print(command, { env: { ...env, ADMIN_PORT }, input: `${ID}\n` });
};
