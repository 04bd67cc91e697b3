/** `list`, `get` and `delete`. */
import type { SessionBackend } from './backend.ts';
import { printMessage, write, type Streams } from './streams.ts';
import { EXIT_FAILURE } from '../../app/lifecycle.ts';
import type { Clock } from '../../clock.ts';
import { formatDuration } from '../../duration.ts';
import type { Binding, MachineId, SessionKey } from '../../session.ts';
import { inChunks, type Selection, formatSession } from '../../sessions/document.ts';

interface InspectParts extends Streams {
  readonly backend: SessionBackend;
  readonly clock: Clock;
}

const NOT_FOUND = 'no such session';

/** Resolves to the exit code, as do the others. */
export async function listSessions(
  selection: Selection,
  isJson: boolean,
  parts: InspectParts,
): Promise<number> {
  await printSessions(parts.backend.entries(selection), isJson, parts);
  return 0;
}

/** `keys`: two, if an id can be read in two ways. */
export async function getSession(
  keys: readonly SessionKey[],
  isJson: boolean,
  parts: InspectParts,
): Promise<number> {
  const found = await findAll(parts.backend, keys);
  if (found.length === 0) {
    printMessage(parts, NOT_FOUND);
    return EXIT_FAILURE;
  }
  await printSessions(found, isJson, parts);
  return 0;
}

export async function deleteSession(
  keys: readonly SessionKey[],
  ifOwner: MachineId | undefined,
  parts: InspectParts,
): Promise<number> {
  const { backend, stdout } = parts;
  const found = await findAll(backend, keys);
  if (found.length > 1) {
    const sessions = found.map(formatSession).join('\n');
    printMessage(parts, `two sessions match: delete one of them with --key\n${sessions}`);
    return EXIT_FAILURE;
  }
  const [binding] = found;
  if (binding === undefined || !(await backend.remove(binding.key, ifOwner))) {
    const isConditional = ifOwner !== undefined;
    printMessage(parts, isConditional ? `${NOT_FOUND}, or another Machine owns it` : NOT_FOUND);
    return EXIT_FAILURE;
  }
  await write(stdout, `deleted ${binding.key}\n`);
  return 0;
}

async function findAll(backend: SessionBackend, keys: readonly SessionKey[]): Promise<Binding[]> {
  const found = await Promise.all(keys.map((key) => backend.find(key)));
  return found.filter((binding) => binding !== undefined);
}

async function printSessions(
  bindings: AsyncIterable<Binding> | Iterable<Binding>,
  isJson: boolean,
  { clock, stdout }: InspectParts,
): Promise<void> {
  async function* lines(): AsyncGenerator<string> {
    if (!isJson) yield TABLE_HEAD;
    for await (const binding of bindings) {
      yield isJson ? formatSession(binding) : tableRow(binding, clock.now());
    }
  }
  for await (const chunk of inChunks(lines())) await write(stdout, chunk);
}

/** Fly's own Machine ids have 14 characters; a longer one shifts its line. */
const COLUMNS = [
  ['KEY', 32],
  ['OWNER', 14],
  ['ORIGIN', 7],
  ['GENERATION', 10],
  ['AGE', 7],
  ['EXPIRES IN', 10],
] as const;

export const TABLE_HEAD = formatRow(COLUMNS.map(([name]) => name));

export function tableRow(binding: Binding, now: number): string {
  const { key, machine, origin, generation, createdAt, expiresAt } = binding;
  const [age, timeLeft] = [now - createdAt, expiresAt - now].map(formatDuration);
  return formatRow([key, machine, origin, String(generation), age ?? '', timeLeft ?? '']);
}

function formatRow(cells: readonly string[]): string {
  const padded = COLUMNS.map(([, width], index) => (cells[index] ?? '').padEnd(width));
  return padded.join('  ').trimEnd();
}
