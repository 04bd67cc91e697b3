/**
 * Tracks what this process opens, to report afterwards what is still open and where it was created:
 * also what does not keep a process alive, such as an unref'ed timer.
 *
 * It uses `async_hooks`. Their cost exists in any case: the test runner enables them, to assign
 * work to a test.
 */
import { createHook } from 'node:async_hooks';
import { subscribe } from 'node:diagnostics_channel';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';

export interface OpenThings {
  /**
   * What was opened since the beginning and is open now, and what was lost: what it is and where it
   * was created.
   */
  list(): string[];
  /** A process that waits for the end of our output waits for theirs too. */
  killChildren(): void;
  /** Things that are open now are not listed any more. */
  forget(): void;
}

interface Thing {
  readonly kind: string;
  readonly handle: Handle;
  /** V8 formats its stack only when it is read. */
  origin: Error;
  /** What it was created from: the server that has accepted a socket. */
  readonly parent: Thing | undefined;
}

/** The fields that handles and timers of Node.js may have. */
interface Handle {
  readonly fd?: number;
  readonly pid?: number;
  /** Of a timer, in ms. */
  readonly _idleTimeout?: number;
  hasRef?(): boolean;
  kill?(signal: number): unknown;
}

/**
 * By their names in `async_hooks`. Requests are excluded, as they end by themselves, and so is what
 * is reported as closed only when it is collected: a thread is visible by its ports, a `FileHandle`
 * by its file.
 */
const KINDS: Readonly<Record<string, string>> = {
  Timeout: 'timer',
  TCPWRAP: 'socket',
  TCPSERVERWRAP: 'server',
  PIPEWRAP: 'pipe',
  PIPESERVERWRAP: 'server',
  UDPWRAP: 'UDP socket',
  PROCESSWRAP: 'child process',
  MESSAGEPORT: 'message port',
  FSEVENTWRAP: 'file watcher',
  STATWATCHER: 'file watcher',
  SIGNALWRAP: 'listener of a signal',
};

/** `whole` stacks of all kinds; `short` ones of timers and sockets, of which there are many. */
export type Stacks = 'whole' | 'short';

export function followOpenThings(stacks: Stacks): OpenThings {
  const open = new Map<number, Thing>();
  const listening = followListening();
  createHook({
    init: (id, type, triggerId, handle) => {
      const kind = KINDS[type];
      if (kind === undefined) return;
      const origin = originHere(stacks === 'short' && MANY.has(kind) ? SHORT_FRAMES : MAX_FRAMES);
      const thing = { kind, handle, origin, parent: open.get(triggerId) };
      open.set(id, thing);
      if (kind === 'server') listening.onHandle(thing);
    },
    destroy: (id) => void open.delete(id),
    // No promise is among the kinds.
    trackPromises: false,
  }).enable();
  const files = followFiles();

  const things = (): Thing[] => [...open.values()].filter(isOurs);
  return {
    list: () => [...things().map(report), ...files.list()],
    killChildren: () => things().forEach(({ handle }) => handle.kill?.(SIGKILL)),
    forget: () => {
      open.clear();
      files.forget();
    },
  };
}

const SIGKILL = 9;

/** The usual ten may all be frames of Node.js. */
const MAX_FRAMES = 40;
/** Reach beyond `setTimeout`, whose caller decides if a timer counts. A quarter of the CPU time. */
const SHORT_FRAMES = 12;
const MANY: ReadonlySet<string> = new Set(['timer', 'socket']);

function originHere(maxFrames: number): Error {
  const usual = Error.stackTraceLimit;
  Error.stackTraceLimit = maxFrames;
  const origin = new Error();
  Error.stackTraceLimit = usual;
  return origin;
}

interface ListenMessage {
  readonly server: object;
}

/**
 * A server gets its handle after a lookup of the host's name, when no caller's frames are on the
 * stack any more. Node.js reports when `listen` is called, and when it has ended, right after the
 * handle was created: https://nodejs.org/docs/latest-v24.x/api/diagnostics_channel.html#net
 */
function followListening(): { onHandle(thing: Thing): void } {
  const origins = new WeakMap<object, Error>();
  let latest: Thing | undefined;
  subscribe('tracing:net.server.listen:asyncStart', (message) => {
    origins.set((message as ListenMessage).server, originHere(MAX_FRAMES));
  });
  subscribe('tracing:net.server.listen:asyncEnd', (message) => {
    const origin = origins.get((message as ListenMessage).server);
    if (latest && origin) latest.origin = origin;
  });
  return { onHandle: (thing) => void (latest = thing) };
}

/** Set by a program. Those that Node.js sets for itself end with their owner. */
const PUBLIC_TIMER = /at (?:\S+\.)?set(?:Timeout|Interval) \(node:timers.+\n +at (?!.*\bnode:)/;
/** That of Node.js, or tsx, has its own thread. */
const LOADER = /\/node_modules\/tsx\/|node:internal\/modules\/esm\/hooks:/;

function isOurs({ kind, handle, origin: { stack = '' } }: Thing): boolean {
  if (kind === 'timer') return PUBLIC_TIMER.test(stack);
  const isStandardStream = handle.fd !== undefined && handle.fd >= 0 && handle.fd <= 2;
  return !isStandardStream && !LOADER.test(stack);
}

function report(thing: Thing): string {
  return [describe(thing), ...originOf(thing)].join('\n');
}

function describe({ kind, handle, origin }: Thing): string {
  if (origin.stack?.includes(' new Worker (node:')) return 'port of a thread';
  const { _idleTimeout: ms, pid } = handle;
  return [
    kind,
    ...(ms === undefined ? [] : [`of ${ms} ms`]),
    ...(pid === undefined ? [] : [`${pid}`]),
    ...(handle.hasRef?.() === false ? ["(unref'ed)"] : []),
  ].join(' ');
}

/** Nearest to the place where it was created. */
const MAX_REPORTED_FRAMES = 5;

/** Frames of Node.js only if there are no others. */
function originOf({ origin, parent }: Thing): readonly string[] {
  const frames = (origin.stack ?? '').split('\n').filter((line) => line.startsWith('    at '));
  const others = frames.filter(
    (frame) => !/\(node:|at node:|<anonymous>\)|open-things/.test(frame),
  );
  if (others.length > 0) return others.slice(0, MAX_REPORTED_FRAMES);
  return parent ? ['  that came out of', report(parent)] : frames.slice(0, MAX_REPORTED_FRAMES);
}

/** A `FileHandle` that is collected is closed, with a warning: it still counts as lost. */
const LOSS = /^Closing (file descriptor|directory handle)/;

function followFiles(): Pick<OpenThings, 'list' | 'forget'> {
  let known = new Set(openFiles());
  let lost: string[] = [];
  process.on('warning', ({ message }) => {
    if (LOSS.test(message)) lost.push(message);
  });
  return {
    list: () => [...lost, ...openFiles().filter((file) => !known.has(file))],
    forget: () => {
      known = new Set(openFiles());
      lost = [];
    },
  };
}

/** None where the system does not report it. */
function openFiles(): string[] {
  if (!existsSync(FILES)) return [];
  return readdirSync(FILES).flatMap((fd) => {
    const target = targetOf(`${FILES}/${fd}`);
    return target.startsWith('/') && !NEVER_OURS.has(target) ? [`file ${target} (${fd})`] : [];
  });
}

const FILES = '/proc/self/fd';
/** tsx passes it to a child process. */
const NEVER_OURS: ReadonlySet<string> = new Set(['/dev/null']);

/** The directory itself was open when it was listed, and is not any more. */
function targetOf(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return '';
  }
}
