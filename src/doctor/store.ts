/** The session store: whether this version can use the file or the database. */
import { open } from 'node:fs/promises';
import type { ClockFacts } from './clock-offset.ts';
import { errorCodeOf } from './probe.ts';
import { type Finding, error, note, ok, warning } from './report.ts';

export type FileFacts =
  | { readonly kind: 'absent' }
  | { readonly kind: 'unreadable'; readonly reason: string }
  | { readonly kind: 'no-database' }
  /** What its header says; the latest of it may still be in the log beside. */
  | { readonly kind: 'database'; readonly applicationId: number; readonly version: number };

export type DatabaseFacts =
  | { readonly kind: 'fails'; readonly reason: string }
  | {
      readonly kind: 'answers';
      readonly roundTripMs: number;
      readonly remarks: readonly DatabaseRemark[];
    };

/** What was found, and the time that was told on the way. */
export interface DatabaseLook {
  readonly facts: DatabaseFacts;
  readonly clocks: readonly ClockFacts[];
}

export type DatabaseRemark =
  | { readonly kind: 'old-version'; readonly version: string; readonly oldest: string }
  | { readonly kind: 'read-only' }
  | { readonly kind: 'evicts'; readonly policy: string }
  | { readonly kind: 'may-not-create' }
  | { readonly kind: 'newer-schema'; readonly version: number };

/** What this version writes. */
export interface KnownSchema {
  readonly applicationId: number;
  readonly version: number;
}

export function checkFile(path: string, facts: FileFacts, known: KnownSchema): Finding[] {
  switch (facts.kind) {
    case 'absent':
      return [
        note(`There is no session store ${path} yet.`, 'The sidecar makes it when it starts.'),
      ];
    case 'unreadable':
      return [
        error(
          `${path} can not be read (${facts.reason}).`,
          'Memory stands in for it, so that a restart forgets the sessions of this Machine.',
          'let the user of the sidecar read and write it, or name another file by SESSION_STORE_PATH',
        ),
      ];
    case 'no-database':
      return [
        warning(
          `${path} is no SQLite database, or a damaged one.`,
          'The sidecar sets it aside as NAME.damaged-TIME, and begins a new one.',
          'another SESSION_STORE_PATH, if the file is not its own',
        ),
      ];
    case 'database':
      return [judgeDatabaseFile(path, facts.applicationId, facts.version, known)];
  }
}

function judgeDatabaseFile(
  path: string,
  applicationId: number,
  version: number,
  known: KnownSchema,
): Finding {
  // One that was just made has its header still in the log.
  const isEmpty = applicationId === 0 && version === 0;
  if (!isEmpty && applicationId !== known.applicationId) {
    return error(
      `${path} is another program's database.`,
      'The sidecar leaves it alone, and memory stands in.',
      'SESSION_STORE_PATH=/data/session-store.sqlite, or any other file of its own',
    );
  }
  if (version > known.version) {
    return warning(
      `${path} was written by a newer version (schema ${version}, and this knows ${known.version}).`,
      'It is used if it says that this version may, and else memory stands in.',
      'a version of fly-affinity as new as the file',
    );
  }
  return ok(`${path} is a session store.`);
}

const SLOW_MS = 250;

/** `name`: without credentials. */
export function checkDatabase(name: string, facts: DatabaseFacts): Finding[] {
  if (facts.kind === 'fails') {
    return [
      error(
        `${name} can not be used: ${facts.reason}.`,
        'Memory stands in, and the Machines are asked for every session that is not known here.',
        'bring it up, or correct SESSION_STORE_URL',
      ),
    ];
  }
  const { roundTripMs, remarks } = facts;
  const answer = `${name} answers in ${Math.round(roundTripMs)} ms.`;
  const speed =
    roundTripMs <= SLOW_MS
      ? ok(answer)
      : warning(
          answer,
          'The first request of a session that this Machine does not know waits so long.',
          'a database in the region of the Machines',
        );
  return [speed, ...remarks.map((remark) => judgeRemark(name, remark))];
}

function judgeRemark(name: string, remark: DatabaseRemark): Finding {
  switch (remark.kind) {
    case 'old-version':
      return error(
        `${name} is of version ${remark.version}.`,
        `It lacks what the store needs, from version ${remark.oldest} on.`,
        `${remark.oldest} or newer`,
      );
    case 'read-only':
      return error(
        `${name} takes no writes.`,
        'It is a replica, or set so: new sessions are kept in memory, and are never written.',
        'the address of the primary in SESSION_STORE_URL',
      );
    case 'evicts':
      return warning(
        `${name} throws keys away when it is full (${remark.policy}).`,
        'Sessions that live would be among them. The sidecars remove those that have expired.',
        'maxmemory-policy noeviction',
      );
    case 'may-not-create':
      return error(
        `The tables are not in ${name}, and its user may not create them.`,
        'The first sidecar that starts has to.',
        'GRANT CREATE, USAGE ON SCHEMA public TO the user',
      );
    case 'newer-schema':
      return warning(
        `${name} was set up by a newer version (schema ${remark.version}).`,
        'It is used if it says that this version may, and else memory stands in.',
        'the newest of the versions in use, everywhere',
      );
  }
}

const HEADER_BYTES = 100;
const MAGIC = 'SQLite format 3\0';
const USER_VERSION_AT = 60;
const APPLICATION_ID_AT = 68;

/** Never rejects. */
export async function probeFile(path: string): Promise<FileFacts> {
  try {
    const header = await readHeader(path);
    // An empty file is a new database.
    if (header.length === 0) return { kind: 'database', applicationId: 0, version: 0 };
    if (header.length < HEADER_BYTES || header.toString('latin1', 0, MAGIC.length) !== MAGIC) {
      return { kind: 'no-database' };
    }
    return {
      kind: 'database',
      applicationId: header.readUInt32BE(APPLICATION_ID_AT),
      version: header.readUInt32BE(USER_VERSION_AT),
    };
  } catch (error) {
    const reason = errorCodeOf(error);
    return reason === 'ENOENT' ? { kind: 'absent' } : { kind: 'unreadable', reason };
  }
}

async function readHeader(path: string): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
