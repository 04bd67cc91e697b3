/** What the image of a Dockerfile is: its user, its command, its variables, what it is based on. */
import { findBase, type BaseImage } from './base-images.ts';
import { chainOf, expanded, unquoted, type Dockerfile, type Stage } from './dockerfile.ts';

export interface Image {
  /** As FROM of the first stage in the chain names it. */
  readonly baseName: string;
  readonly base: BaseImage;
  /** As USER has it; undefined: the user of the base, mostly root. */
  readonly user: string | undefined;
  readonly entrypoint: Command | undefined;
  readonly cmd: Command | undefined;
  readonly env: ReadonlyMap<string, string>;
  readonly exposed: readonly number[];
  /** Whether the Dockerfile names that folder, or something in it. */
  readonly mentions: (folder: string) => boolean;
}

/** A command as it is written; `words`: how it is executed. */
export interface Command {
  readonly form: 'exec' | 'shell';
  readonly words: readonly string[];
  /** The stage of the Dockerfile that has it; undefined: the base image. */
  readonly stage: Stage | undefined;
}

export function readImage(dockerfile: Dockerfile, target: Stage): Image {
  const chain = chainOf(dockerfile, target);
  const baseName = chain.at(-1)?.base ?? '';
  const base = findBase(baseName);
  const env = envOf(chain);
  const entrypoint = commandIn(chain, 'ENTRYPOINT') ?? commandOfBase(base.entrypoint);
  // An ENTRYPOINT of its own makes an image forget the CMD of its base.
  const hasOwnEntrypoint = entrypoint?.stage !== undefined;
  const cmd = commandIn(chain, 'CMD') ?? (hasOwnEntrypoint ? undefined : commandOfBase(base.cmd));
  return {
    ...{ baseName, base, entrypoint, cmd, env },
    user: lastOf(chain, 'USER')?.rest ?? base.user,
    exposed: exposedIn(chain, env),
    mentions: (folder) => new RegExp(`${folder}(?![\\w.-])`).test(textOf(chain)),
  };
}

function commandOfBase(words: readonly string[] | undefined): Command | undefined {
  return words && { form: 'exec', words, stage: undefined };
}

function lastOf(chain: readonly Stage[], name: string) {
  for (const stage of chain) {
    const found = stage.instructions.findLast((each) => each.name === name);
    if (found) return { ...found, stage };
  }
  return undefined;
}

function commandIn(chain: readonly Stage[], name: string): Command | undefined {
  const found = lastOf(chain, name);
  if (!found) return undefined;
  const words = execForm(found.rest);
  if (words) return words.length === 0 ? undefined : { form: 'exec', words, stage: found.stage };
  const shell = execForm(lastOf(chain, 'SHELL')?.rest ?? '') ?? ['/bin/sh', '-c'];
  return { form: 'shell', words: [...shell, found.rest], stage: found.stage };
}

/** The words of a command in JSON; undefined: it is in the form of a shell. */
function execForm(rest: string): readonly string[] | undefined {
  if (!rest.startsWith('[')) return undefined;
  try {
    const words: unknown = JSON.parse(rest);
    const isWords = Array.isArray(words) && words.every((word) => typeof word === 'string');
    return isWords ? words : undefined;
  } catch {
    // As for Docker, what is no JSON is a command for the shell.
    return undefined;
  }
}

function envOf(chain: readonly Stage[]): ReadonlyMap<string, string> {
  const env = new Map<string, string>();
  for (const { instructions } of chain.toReversed()) {
    for (const { name, rest } of instructions) {
      if (name !== 'ENV' && name !== 'ARG') continue;
      for (const [key, value] of pairsIn(rest)) env.set(key, expanded(value, env));
    }
  }
  return env;
}

function pairsIn(rest: string): (readonly [string, string])[] {
  const pairs = [...rest.matchAll(/(\w+)=("(?:[^"\\]|\\.)*"|'[^']*'|\S*)/g)];
  if (pairs.length > 0 && /^\w+=/.test(rest)) {
    return pairs.map(([, key = '', value = '']) => [key, unquoted(value)]);
  }
  // The older form, `ENV NAME the value`.
  const [, key, value] = /^(\w+)\s+(.*)$/.exec(rest) ?? [];
  return key === undefined ? [] : [[key, value ?? '']];
}

function exposedIn(chain: readonly Stage[], env: ReadonlyMap<string, string>): readonly number[] {
  return chain
    .flatMap(({ instructions }) => instructions.filter(({ name }) => name === 'EXPOSE'))
    .flatMap(({ rest }) => expanded(rest, env).split(/\s+/))
    .map((port) => Number(/^(\d+)(\/tcp)?$/.exec(port)?.[1]))
    .filter((port) => port > 0);
}

function textOf(chain: readonly Stage[]): string {
  return chain.flatMap(({ instructions }) => instructions.map(({ rest }) => rest)).join('\n');
}
