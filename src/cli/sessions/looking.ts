/** `list`, `get` and `delete`. */
import type { Binding, MachineId, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { inChunks } from '../../sessions/document.ts';
import { formatSession } from '../../sessions/format.ts';
import type { Selection } from '../../sessions/select.ts';
import { EXIT_FAILURE } from '../../app/exit-codes.ts';
import type { SessionBackend } from './place.ts';
import { printMessage, write, type Streams } from './streams.ts';
import { TABLE_HEAD, tableRow } from './table.ts';

export interface LookingParts extends Streams {
  readonly place: SessionBackend;
  readonly clock: Clock;
}

const NOT_FOUND = 'no such session';

export async function listSessions(
  selection: Selection,
  isJson: boolean,
  parts: LookingParts,
): Promise<number> {
  await print(parts.place.entries(selection), isJson, parts);
  return 0;
}

/** An id can stand for two sessions. */
export async function getSession(
  keys: readonly SessionKey[],
  isJson: boolean,
  parts: LookingParts,
): Promise<number> {
  const found = await findAll(parts.place, keys);
  if (found.length === 0) {
    printMessage(parts, NOT_FOUND);
    return EXIT_FAILURE;
  }
  await print(found, isJson, parts);
  return 0;
}

export async function deleteSession(
  keys: readonly SessionKey[],
  ifOwner: MachineId | undefined,
  parts: LookingParts,
): Promise<number> {
  const { place, stdout } = parts;
  const found = await findAll(place, keys);
  if (found.length > 1) {
    printMessage(
      parts,
      `two sessions fit: delete one of them with --key\n${found.map(formatSession).join('\n')}`,
    );
    return EXIT_FAILURE;
  }
  const [binding] = found;
  if (binding === undefined || !(await place.remove(binding.key, ifOwner))) {
    printMessage(
      parts,
      ifOwner === undefined ? NOT_FOUND : `${NOT_FOUND}, or another Machine owns it`,
    );
    return EXIT_FAILURE;
  }
  await write(stdout, `deleted ${binding.key}\n`);
  return 0;
}

async function findAll(place: SessionBackend, keys: readonly SessionKey[]): Promise<Binding[]> {
  const found = await Promise.all(keys.map((key) => place.find(key)));
  return found.filter((binding) => binding !== undefined);
}

async function print(
  bindings: AsyncIterable<Binding> | Iterable<Binding>,
  isJson: boolean,
  { clock, stdout }: LookingParts,
): Promise<void> {
  async function* lines(): AsyncGenerator<string> {
    if (!isJson) yield TABLE_HEAD;
    for await (const binding of bindings) {
      yield isJson ? formatSession(binding) : tableRow(binding, clock.now());
    }
  }
  for await (const chunk of inChunks(lines())) await write(stdout, chunk);
}
