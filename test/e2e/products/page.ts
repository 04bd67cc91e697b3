/** The page with the product table: its introduction is written by hand, its table by the test. */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import type { Product } from './product.ts';

const PAGE = fileURLToPath(new URL('../../../src/docs/products.md', import.meta.url));
const HEADING = '\n## Results\n';

export interface Row {
  readonly product: Product;
  readonly withHints: string;
  readonly withoutHints: string;
}

const TITLES = [
  ...['product', 'version', 'preset', 'setting', 'transports', 'client'],
  ...['hints on', 'hints off'],
];

/** As prettier writes it. */
export async function tableOf(rows: readonly Row[]): Promise<string> {
  const lines = rows.map(({ product, withHints, withoutHints }) => {
    const { name, version, preset, setting, transports, client } = product;
    return [name, version, preset, setting, transports, client, withHints, withoutHints];
  });
  const table = [TITLES, TITLES.map(() => '---'), ...lines].map(
    (cells) => `| ${cells.map((cell) => cell.replaceAll('|', String.raw`\|`)).join(' | ')} |`,
  );
  return formatted(table.join('\n'));
}

export async function readTable(): Promise<string> {
  const [, table] = await readParts();
  return table.trimStart();
}

export async function writeTable(table: string): Promise<void> {
  const [introduction] = await readParts();
  await writeFile(PAGE, await formatted(`${introduction}${HEADING}\n${table}`));
}

async function readParts(): Promise<readonly [introduction: string, table: string]> {
  const [introduction, table, ...others] = (await readFile(PAGE, 'utf8')).split(HEADING);
  if (introduction === undefined || table === undefined || others.length > 0) {
    throw new Error(`${PAGE} must have the heading ${HEADING.trim()} once`);
  }
  return [introduction, table];
}

async function formatted(markdown: string): Promise<string> {
  return format(markdown, { ...(await resolveConfig(PAGE)), filepath: PAGE });
}
