/** Puts the sidecar into a Dockerfile; all other lines stay. */
import type { Dockerfile, Instruction, Stage } from './dockerfile.ts';
import type { Image } from './image.ts';
import { BEGIN, END, endOfLine, WAS } from './marks.ts';

export const FOLDER = '/opt/fly-affinity';
export const RUN = [`${FOLDER}/start`, 'run', '--'] as const;

interface DockerfilePlan {
  readonly stage: Stage;
  readonly image: Image;
  /** Of fly-affinity. */
  readonly version: string;
  /** Whom `start` makes app and sidecar run as, after it was root; undefined: the image has its own user. */
  readonly runAs: string | undefined;
  /** What comes in front of the command of the app. */
  readonly prefix: readonly string[];
  /** Whether the image starts the sidecar, not the commands of process groups. */
  readonly isEntrypoint: boolean;
}

export function addSidecar(dockerfile: Dockerfile, plan: DockerfilePlan): string {
  const { lines, text, escape } = dockerfile;
  const edits = [stageEdit(plan, escape), ...finalEdits(plan)].sort((a, b) => b.from - a.from);
  const edited = [...lines];
  const last = edited.at(-1);
  const eol = endOfLine(text);
  if (last !== undefined && !last.endsWith('\n')) edited[edited.length - 1] = last + eol;
  for (const { from, to, block } of edits) {
    const old = edited.slice(from, to).map((line) => WAS + line);
    const marked = [BEGIN, ...block.before].map((line) => line + eol);
    const after = [...block.after, END].map((line) => line + eol);
    edited.splice(from, to - from, ...marked, ...old, ...after);
  }
  return edited.join('');
}

/** Replaces the lines from `from` up to `to` by a block; they stay in it as comments. */
interface Edit {
  readonly from: number;
  readonly to: number;
  readonly block: { readonly before: readonly string[]; readonly after: readonly string[] };
}

/** In front of the stage that is built, so that the numbers of those before it stay. */
function stageEdit({ stage, image, version }: DockerfilePlan, escape: string): Edit {
  const variant = image.base.libc === 'musl' ? 'alpine' : 'slim';
  const steps = [
    `npm install --global --ignore-scripts fly-affinity@${version}`,
    `mv /usr/local/lib/node_modules/fly-affinity ${FOLDER}`,
    `cp ${FOLDER}/.config/start ${FOLDER}/start`,
    ...(image.base.hasNode
      ? []
      : [`mkdir ${FOLDER}/bin && cp /usr/local/bin/node ${FOLDER}/bin/node`]),
  ];
  const lines = [
    `FROM node:24-${variant} AS fly-affinity`,
    `RUN ${steps.join(` ${escape}\n  && `)}`,
  ];
  const { from } = stage.from;
  return {
    from,
    to: from,
    block: { before: lines.flatMap((line) => line.split('\n')), after: [] },
  };
}

function finalEdits(plan: DockerfilePlan): Edit[] {
  const { stage, image, isEntrypoint } = plan;
  const own = image.entrypoint?.stage === stage ? findLast(stage, 'ENTRYPOINT') : undefined;
  const user = findLast(stage, 'USER');
  const before = folderLines(plan);
  if (!isEntrypoint) return [insertion(placeFor(stage), before)];
  const after = commandLines(plan);
  if (!own) return [insertion(placeFor(stage), [...before, ...after])];
  if (!user || user.from < own.from)
    return [{ from: own.from, to: own.to, block: { before, after } }];
  return [
    { from: own.from, to: own.to, block: { before: [], after: [] } },
    insertion(user.to, [...before, ...after]),
  ];
}

function insertion(at: number, lines: readonly string[]): Edit {
  return { from: at, to: at, block: { before: lines, after: [] } };
}

function findLast({ instructions }: Stage, name: string): Instruction | undefined {
  return instructions.findLast((each) => each.name === name);
}

/** Before the command, but behind the last USER. */
function placeFor(stage: Stage): number {
  const { instructions, from } = stage;
  const user = findLast(stage, 'USER')?.to ?? 0;
  const command = instructions.find(({ name }) => name === 'CMD' || name === 'ENTRYPOINT');
  const end = instructions.at(-1)?.to ?? from.to;
  return Math.max(user, command?.from ?? end);
}

/** The folder, and what it needs. */
function folderLines({ image, runAs }: DockerfilePlan): string[] {
  const isMusl = image.base.libc === 'musl';
  const packages = runAs === undefined ? 'libstdc++' : 'libstdc++ setpriv';
  const install = isMusl ? [`RUN apk add --no-cache ${packages}`] : [];
  const copy = `COPY --from=fly-affinity ${FOLDER} ${FOLDER}`;
  if (runAs !== undefined) {
    const why = '# Root hands over the store, then app and sidecar run as this user.';
    return [copy, why, 'USER root', ...install, `ENV FLY_AFFINITY_RUN_AS=${runAs}`];
  }
  const { user } = image;
  if (!isMusl || user === undefined) return [copy, ...install];
  return [copy, 'USER root', ...install, `USER ${user}`];
}

/** A new ENTRYPOINT makes Docker forget a CMD that was inherited. */
function commandLines({ stage, image, prefix }: DockerfilePlan): string[] {
  const { entrypoint, cmd } = image;
  const words = [...prefix, ...(entrypoint?.words ?? [])];
  const isInherited = cmd !== undefined && cmd.stage !== stage;
  return [`ENTRYPOINT ${inJson(words)}`, ...(isInherited ? [`CMD ${inJson(cmd.words)}`] : [])];
}

function inJson(words: readonly string[]): string {
  return `[${words.map((word) => JSON.stringify(word)).join(', ')}]`;
}
