/** Decides where the sidecar comes in: the ENTRYPOINT of the image, or the commands of process groups. */
import type { Change } from '../doctor/change.ts';
import type { FlyToml } from '../doctor/fly-toml.ts';
import { RUN } from './dockerfile-edit.ts';
import type { Command, Image } from './image.ts';
import { refuse, type Refusal } from './refusals.ts';

export interface CommandPlan {
  readonly kind: 'planned';
  /** Whether the image starts the sidecar, not the commands of process groups. */
  readonly isEntrypoint: boolean;
  readonly hasCommand: boolean;
  /** Whom `start` makes app and sidecar run as, after it was root. */
  readonly runAs: string | undefined;
  readonly canOwnVolume: boolean;
  /** What comes in front of the command of the app. */
  readonly prefix: readonly string[];
  /** The process groups whose commands start the sidecar. */
  readonly wrapped: readonly string[];
  readonly changes: readonly Change[];
  readonly note: string | undefined;
}

/** `groups`: those that the sidecar serves. */
export function chooseCommands(
  toml: FlyToml,
  groups: readonly string[],
  image: Image,
  appPort: number,
): CommandPlan | Refusal {
  const prefix = [...RUN, ...ownPort(toml, image, appPort)];
  const isRoot = isRootUser(image.user);
  const others = toml.processGroups.filter((group) => !groups.includes(group));
  if (others.length > 0) return wrapGroups(toml, groups, image, prefix);
  const isNobody = /^(nobody|65534)(:|$)/.test(image.user ?? '');
  const runAs = isRoot || isNobody ? undefined : image.user;
  return {
    ...{ kind: 'planned', isEntrypoint: true, runAs, prefix, wrapped: [], changes: [] },
    hasCommand: hasCommand(image) || groups.every((group) => (toml.commands[group] ?? '') !== ''),
    canOwnVolume: isRoot || runAs !== undefined,
    note: isRoot
      ? 'The image runs as root, and so does the app. USER in the Dockerfile, or FLY_AFFINITY_RUN_AS=uid:gid, drops root.'
      : undefined,
  };
}

/** `run` sets PORT to where the app listens; a process behind a front of its own needs the PORT that it has. */
function ownPort({ env }: FlyToml, image: Image, appPort: number): readonly string[] {
  const port = env.PORT ?? image.env.get('PORT') ?? '';
  return /^\d+$/.test(port) && Number(port) !== appPort ? ['env', `PORT=${port}`] : [];
}

function isRootUser(user: string | undefined): boolean {
  return user === undefined || /^(root|0)(:|$)/.test(user);
}

function hasCommand({ entrypoint, cmd }: Image): boolean {
  return cmd !== undefined || entrypoint?.stage !== undefined;
}

/** Fly.io gives the command of a group to the ENTRYPOINT of the image, which other groups have too. */
function wrapGroups(
  toml: FlyToml,
  groups: readonly string[],
  image: Image,
  prefix: readonly string[],
): CommandPlan | Refusal {
  if (!passesOn(image.entrypoint)) {
    return refuse(
      `Other process groups share the ENTRYPOINT ${image.entrypoint?.words.join(' ') ?? ''}, which does not start any command that it is given.`,
      [
        `Write the whole command into [processes]: ${RUN.join(' ')} COMMAND for ${groups.join(', ')}, and remove the ENTRYPOINT.`,
      ],
    );
  }
  const commands = groups.map((group) => toml.commands[group] ?? '');
  const ofImage = image.cmd ? image.cmd.words.map(quoted).join(' ') : '';
  const changes = groups.map((group, index) => ({
    path: ['processes', group],
    value: [...prefix, commands[index] === '' ? ofImage : commands[index]].join(' '),
  }));
  return {
    ...{ kind: 'planned', isEntrypoint: false, runAs: undefined, prefix, wrapped: groups, changes },
    hasCommand: commands.every((command) => command !== '' || ofImage !== ''),
    canOwnVolume: isRootUser(image.user),
    note: undefined,
  };
}

/** Scripts that end with `exec "$@"`, and init programs. */
function passesOn(entrypoint: Command | undefined): boolean {
  const last = entrypoint?.words.at(-1);
  return last === undefined || last === '--' || /entrypoint|\.sh$|tini$|dumb-init$/.test(last);
}

/** A word of a command, as Fly.io splits it. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
