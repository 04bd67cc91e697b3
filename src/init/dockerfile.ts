/** Reads a Dockerfile: its stages and instructions, with their lines. https://docs.docker.com/reference/dockerfile/ */
import { linesOf } from './marks.ts';

export interface Instruction {
  /** In capitals. */
  readonly name: string;
  /** What follows it, on one line. */
  readonly rest: string;
  /** Its first line, and the one behind its last; from 0. */
  readonly from: number;
  readonly to: number;
}

export interface Stage {
  /** Its FROM. */
  readonly from: Instruction;
  /** The image or the stage it begins with, build arguments filled in. */
  readonly base: string;
  readonly name: string | undefined;
  readonly instructions: readonly Instruction[];
}

export interface Dockerfile {
  readonly text: string;
  readonly lines: readonly string[];
  /** What continues a line. */
  readonly escape: string;
  readonly stages: readonly Stage[];
}

export function parseDockerfile(text: string): Dockerfile {
  const lines = linesOf(text);
  const escape = escapeIn(lines);
  const instructions = readInstructions(lines, escape);
  const stages: (Stage & { readonly instructions: Instruction[] })[] = [];
  const args = new Map<string, string>();
  for (const instruction of instructions) {
    if (instruction.name === 'FROM') stages.push(stageFrom(instruction, args));
    else if (stages.length > 0) stages.at(-1)?.instructions.push(instruction);
    else if (instruction.name === 'ARG') readArgs(instruction.rest, args);
  }
  return { text, lines, escape, stages };
}

/** A directive may replace the backslash that continues a line. */
function escapeIn(lines: readonly string[]): string {
  for (const line of lines) {
    const [, name, value] = /^#\s*(\w+)\s*=\s*(\S+)/.exec(line) ?? [];
    if (name === undefined) return '\\';
    if (name.toLowerCase() === 'escape') return value ?? '\\';
  }
  return '\\';
}

const COMMENT_OR_BLANK = /^\s*(#.*)?$/;

function readInstructions(lines: readonly string[], escape: string): Instruction[] {
  const instructions: Instruction[] = [];
  let at = 0;
  while (at < lines.length) {
    const from = at;
    const first = lines[at]?.trim() ?? '';
    at += 1;
    if (COMMENT_OR_BLANK.test(first)) continue;
    const parts = [first];
    while (parts.at(-1)?.endsWith(escape) && at < lines.length) {
      const next = lines[at]?.trim() ?? '';
      at += 1;
      // Comments and empty lines do not end an instruction.
      if (COMMENT_OR_BLANK.test(next)) continue;
      parts.push(next);
    }
    const whole = parts
      .map((part) => (part.endsWith(escape) ? part.slice(0, -1).trim() : part))
      .join(' ');
    const [, name = '', rest = ''] = /^(\S+)\s*(.*)$/s.exec(whole) ?? [];
    at = behindHeredocs(lines, at, name.toUpperCase(), rest);
    instructions.push({ name: name.toUpperCase(), rest, from, to: at });
  }
  return instructions;
}

/** The texts of `RUN <<EOF` and `COPY <<EOF`. */
function behindHeredocs(lines: readonly string[], at: number, name: string, rest: string): number {
  if (name !== 'RUN' && name !== 'COPY' && name !== 'ADD') return at;
  let line = at;
  for (const [, , word] of rest.matchAll(/<<-?\s*(["']?)(\w+)\1/g)) {
    const end = lines.findIndex((each, index) => index >= line && each.trim() === word);
    if (end < 0) return line;
    line = end + 1;
  }
  return line;
}

function stageFrom(
  instruction: Instruction,
  args: ReadonlyMap<string, string>,
): Stage & { readonly instructions: Instruction[] } {
  const words = instruction.rest.split(/\s+/).filter((word) => !word.startsWith('--'));
  const [base = '', as, name] = words;
  const isNamed = as?.toUpperCase() === 'AS';
  return {
    from: instruction,
    base: expanded(base, args),
    name: isNamed ? name?.toLowerCase() : undefined,
    instructions: [],
  };
}

function readArgs(rest: string, args: Map<string, string>): void {
  for (const [, name = '', value = ''] of rest.matchAll(/(\w+)=("[^"]*"|'[^']*'|\S*)/g)) {
    args.set(name, expanded(unquoted(value), args));
  }
}

export function unquoted(text: string): string {
  return /^(["'])(.*)\1$/s.exec(text)?.[2] ?? text;
}

/** `$NAME`, `${NAME}` and `${NAME:-default}`; what is unknown stays. */
export function expanded(text: string, values: ReadonlyMap<string, string>): string {
  return text.replace(
    /\$(?:(\w+)|\{(\w+)(?::?[-+]([^}]*))?\})/g,
    (whole, bare: string | undefined, braced: string | undefined, fallback: string | undefined) =>
      values.get(bare ?? braced ?? '') ?? fallback ?? whole,
  );
}

/** The stage that is built: the one that is named, else the last. */
export function targetOf({ stages }: Dockerfile, target?: string): Stage | undefined {
  if (target === undefined) return stages.at(-1);
  return stages.find(({ name }) => name === target.toLowerCase()) ?? stages[Number(target)];
}

/** That stage, and those it begins with; the last of them begins with an image. */
export function chainOf(dockerfile: Dockerfile, stage: Stage): readonly Stage[] {
  const before = dockerfile.stages.slice(0, dockerfile.stages.indexOf(stage));
  const base = before.findLast(({ name }) => name === stage.base.toLowerCase());
  return base ? [stage, ...chainOf(dockerfile, base)] : [stage];
}
