/** `fly-affinity help`: the commands and the topics, a page of `src/docs`, or the usage of a command. */
import { print, reportMistake, type Command, type CommandModule } from './command.ts';
import type { Setting } from '../config/setting.ts';
import { SETTING_NAMES, SETTINGS } from '../config/settings.ts';
import { listPages, readPage } from '../package.ts';

export const USAGE = `Usage: fly-affinity help [TOPIC]

Prints the commands and the topics, or the page about a topic. For the name of a command that is no
topic, prints the help of the command.
`;

export function operands(commands: readonly Command[]): readonly string[] {
  return [...new Set([...listPages(), ...commands.map(({ name }) => name)])];
}

export const execute: CommandModule['execute'] = async ([topic, ...others], context) => {
  const topics = listPages();
  if (topic === undefined) {
    await print(context.stdout, overview(context.commands, topics));
    return 0;
  }
  if (others.length > 0) return reportMistake(context, 'one topic is expected', 'help');
  const command = context.commands.find(({ name }) => name === topic);
  if (!topics.includes(topic)) {
    if (command) {
      await print(context.stdout, (await command.load()).USAGE);
      return 0;
    }
    const message = `unknown topic ${JSON.stringify(topic)}, the topics are ${topics.join(', ')}`;
    return reportMistake(context, message, 'help');
  }
  await print(context.stdout, textOf(readPage(topic)));
  return 0;
};

/** Of the longest, and two spaces. */
const NAME_WIDTH = 12;

function overview(commands: readonly Command[], topics: readonly string[]): string {
  const lines = commands.map(({ name, summary }) => `  ${name.padEnd(NAME_WIDTH)}${summary}\n`);
  return `fly-affinity routes each request of a session to the Machine that has the session.

Usage: fly-affinity [COMMAND]
${lines.join('')}
Topics (fly-affinity help TOPIC); settings are environment variables
${inLines(topics)}
`;
}

const TOPICS_IN_A_LINE = 5;

function inLines(topics: readonly string[]): string {
  const count = Math.ceil(topics.length / TOPICS_IN_A_LINE);
  const lines = Array.from({ length: count }, (_, line) =>
    topics.slice(line * TOPICS_IN_A_LINE, (line + 1) * TOPICS_IN_A_LINE).join(', '),
  );
  return `  ${lines.join(',\n  ')}`;
}

const SETTINGS_TABLE = /<!-- settings:begin -->[^]*<!-- settings:end -->/;
const COMMENT_LINES = /^<!--.*-->\n/gm;

const CODE_FENCE = /^```.*\n/m;

/** A page as plain text. The table of settings is wider than any terminal, so it becomes a list. */
export function textOf(page: string): string {
  const markdown = page.replace(SETTINGS_TABLE, listSettings).replace(COMMENT_LINES, '');
  const parts = markdown.split(CODE_FENCE);
  return parts.map((part, index) => (index % 2 === 0 ? plain(part) : indented(part))).join('');
}

function indented(code: string): string {
  return code.replace(/^(?=.)/gm, '    ');
}

function plain(markdown: string): string {
  return markdown
    .replace(/\[([^\]]+)\]\((https:[^)]*)\)/g, '$1 ($2)')
    .replace(/\[([^\]]+)\]\([^)]*\)/g, '$1')
    .replace(/\*\*|`/g, '')
    .replace(/^(#+) (.*)$/gm, (_, { length: level }: string, title: string) => {
      return `${title}\n${(level === 1 ? '=' : '-').repeat(title.length)}`;
    })
    .replace(/(?:^\|.*\|\n)+/gm, inColumns);
}

/** Without the second row, which only separates. */
function inColumns(table: string): string {
  const rows = table.trimEnd().split('\n').toSpliced(1, 1);
  const cells = rows.map((row) =>
    row
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim()),
  );
  const widthOf = (column: number): number =>
    Math.max(...cells.map((row) => row[column]?.length ?? 0));
  const lines = cells.map((row) => row.map((cell, column) => cell.padEnd(widthOf(column))));
  return lines.map((line) => `${line.join('  ').trimEnd()}\n`).join('');
}

function listSettings(): string {
  const rows = SETTING_NAMES.map((name) => {
    const { shownFallback, summary }: Setting<unknown> = SETTINGS[name];
    return `  ${name} (${shownFallback})\n      ${summary}`.replaceAll('`', '');
  });
  return rows.join('\n');
}
