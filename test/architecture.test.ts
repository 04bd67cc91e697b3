/**
 * The architecture of the source: direction of imports, use of adapters, access to time, randomness
 * and environment.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import ts from 'typescript';

const SRC = path.join(import.meta.dirname, '../src');

/**
 * Imports go to a lower rank, or stay in one's own folder. A folder's rank is that of its files,
 * except those that are named themselves. The files at the top of `src` have one each.
 */
const RANKS: Readonly<Record<string, number>> = {
  'clock.ts': 0,
  'collect-garbage.ts': 0,
  'duration.ts': 0,
  'errors.ts': 0,
  'session.ts': 0,
  'package.ts': 0,
  'json.ts': 0,
  'schemas.ts': 1,
  'fly.ts': 1,
  'resilience.ts': 1,
  'routing/decision.ts': 1,
  'store/store.ts': 1,
  'http/': 2,
  'observability/': 2,
  'protocols/': 2,
  'config/': 3,
  'store/': 3,
  'store/sqlite/': 4,
  'store/redis/': 4,
  'store/postgres/': 4,
  'store/resilient/': 4,
  'fleet/': 4,
  'fleet/join/': 5,
  'sessions/': 4,
  'routing/': 5,
  'proxy/': 6,
  'admin/': 7,
  'app/': 8,
  'doctor/': 8,
  'init/': 9,
  'probe/': 8,
  'simulator/': 9,
  'cli/init/': 10,
  'cli/sessions/': 10,
  'cli/check/': 10,
  'cli/probe-options.ts': 9,
  'cli/try/': 10,
  'cli/': 11,
  'main.ts': 12,
};

/** The modules behind a port. Only the composition root knows which one is used. */
const ADAPTERS: readonly string[] = [
  'store/memory.ts',
  'store/postgres/postgres.ts',
  'store/redis/redis.ts',
  'store/sqlite/sqlite.ts',
  'fleet/dns-directory.ts',
  'fleet/static-directory.ts',
  'observability/prometheus.ts',
  'observability/otlp-tracing.ts',
];
const COMPOSITION = /^(app|cli|doctor)\//;

/** What `serve` loads by its static imports: modules behind an `import()` may never be needed. */
const SERVE: readonly string[] = ['main.ts', 'cli/commands.ts', 'cli/serve.ts', 'app/app.ts'];
const WRITER_THREAD: readonly string[] = ['store/sqlite/writer.ts'];
const NOT_FOR_SERVE =
  /^(simulator|doctor|init|probe|store\/redis|store\/postgres)\/|^cli\/(?!commands?\.ts$|serve\.ts$)/;
/**
 * An import of node:http loads 13 MB more than it needs, see `node-http.ts`; the others load TLS.
 */
const HEAVY_BUILT_INS: readonly string[] = ['node:http', 'node:https', 'node:http2'];
/** Modules that may read time, randomness and environment; all others receive them. */
const WORLD_READERS = /^(clock|config\/config|main)\.ts$|^cli\//;
const WORLD_NAMES: ReadonlySet<string> = new Set([
  ...['setTimeout', 'setInterval', 'Date.now', 'performance.now', 'Math.random'],
  ...['process.env', 'process.hrtime', 'process.uptime'],
]);
const WORLD_IMPORTS: ReadonlySet<string> = new Set(['scheduler', 'env', 'hrtime', 'uptime']);

/** Of a file. When you need "and" to say its purpose, it is two files. */
const MAX_LINES = 300;

interface SourceFile {
  /** From `src`, with slashes. */
  readonly name: string;
  readonly lineCount: number;
  /** Files of the project that it names, from `src`. */
  readonly imports: readonly string[];
  /**
   * What is loaded with it: its static imports except those of types; files from `src`, packages by
   * name.
   */
  readonly loads: readonly string[];
  /** Its direct reads of time, randomness and environment. */
  readonly reads: readonly string[];
}

const FILES: readonly SourceFile[] = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => name.replaceAll(path.sep, '/'))
  .sort()
  .map((name) => readSource(name, readFileSync(path.join(SRC, name), 'utf8')));

function readSource(name: string, text: string): SourceFile {
  const imports = new Set<string>();
  const loads = new Set<string>();
  const reads = new Set<string>();
  const visit = (node: ts.Node): void => {
    const specifier = specifierOf(node);
    if (specifier?.startsWith('.')) imports.add(fileOf(name, specifier));
    if (specifier !== undefined && isLoadedAlong(node)) loads.add(fileOf(name, specifier));
    const read = readOf(node);
    if (read !== undefined) reads.add(read);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true));
  const known = (file: string): boolean => file.endsWith('.ts') && !file.startsWith('..');
  const lineCount = text.split('\n').length - 1;
  return {
    name,
    lineCount,
    imports: [...imports].filter(known),
    loads: [...loads],
    reads: [...reads],
  };
}

/** From `src`; packages unchanged. */
function fileOf(importer: string, specifier: string): string {
  if (!specifier.startsWith('.')) return specifier;
  return path.posix.join(path.posix.dirname(importer), specifier);
}

/** With `verbatimModuleSyntax`, `import { type A }` loads what it names, and `import type` does not. */
function isLoadedAlong(node: ts.Node): boolean {
  if (ts.isExportDeclaration(node)) return !node.isTypeOnly;
  return (
    ts.isImportDeclaration(node) && node.importClause?.phaseModifier !== ts.SyntaxKind.TypeKeyword
  );
}

/** All that is loaded with these files, including themselves. */
function loadedWith(roots: readonly string[], files: readonly SourceFile[]): ReadonlySet<string> {
  const loadsOf = new Map(files.map(({ name, loads }) => [name, loads]));
  const loaded = new Set(roots);
  for (const name of loaded) {
    for (const each of loadsOf.get(name) ?? []) loaded.add(each);
  }
  return loaded;
}

function isOfProject(name: string): boolean {
  return name.endsWith('.ts');
}

/** The module that an import, a re-export, a dynamic import or a worker's URL names. */
function specifierOf(node: ts.Node): string | undefined {
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) {
    return literalOf(node.moduleSpecifier);
  }
  const isImportCall =
    ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword;
  if (isImportCall) return literalOf(node.arguments[0]);
  const isUrl = ts.isNewExpression(node) && node.expression.getText() === 'URL';
  return isUrl && node.arguments?.[1]?.getText() === 'import.meta.url'
    ? literalOf(node.arguments[0])
    : undefined;
}

function literalOf(node: ts.Node | undefined): string | undefined {
  return node && ts.isStringLiteralLike(node) ? node.text : undefined;
}

function readOf(node: ts.Node): string | undefined {
  if (ts.isNewExpression(node) && node.expression.getText() === 'Date') {
    return node.arguments?.length ? undefined : 'new Date()';
  }
  if (ts.isImportSpecifier(node)) return importOf(node);
  if (ts.isPropertyAccessExpression(node)) return worldAccess(node);
  return ts.isIdentifier(node) && !isPropertyName(node) ? worldAccess(node) : undefined;
}

/** A global of a built-in module, whatever its local name. */
function importOf(node: ts.ImportSpecifier): string | undefined {
  const name = (node.propertyName ?? node.name).text;
  const isBuiltIn = literalOf(node.parent.parent.parent.moduleSpecifier)?.startsWith('node:');
  return isBuiltIn && (WORLD_NAMES.has(name) || WORLD_IMPORTS.has(name)) ? name : undefined;
}

/** `socket.setTimeout` is a socket's own; `{ setTimeout: 1 }` only names a property. */
function isPropertyName(node: ts.Identifier): boolean {
  const { parent } = node;
  const hasName = ts.isPropertyAccessExpression(parent) || ts.isPropertyAssignment(parent);
  return hasName && parent.name === node;
}

function worldAccess(node: ts.Node): string | undefined {
  const name = node.getText().replace(/^globalThis\./, '');
  return WORLD_NAMES.has(name) ? name : undefined;
}

/** With a slash at its end; empty for the files beside `app.ts`. */
function folderOf(name: string): string {
  return name.slice(0, name.lastIndexOf('/') + 1);
}

function rankOf(name: string): number {
  const rank = RANKS[name] ?? RANKS[folderOf(name)];
  assert.ok(rank !== undefined, `${name} has no rank: add it to RANKS`);
  return rank;
}

function mayImport(importer: string, imported: string): boolean {
  const [from, to] = [rankOf(importer), rankOf(imported)];
  const isInFolder = folderOf(importer) === folderOf(imported) && importer.includes('/');
  return isInFolder || to < from;
}

/** The files of one import cycle, the first of them again at the end. */
function findCircle(files: readonly SourceFile[]): readonly string[] | undefined {
  const importsOf = new Map(files.map(({ name, imports }) => [name, imports]));
  const isDone = new Set<string>();
  const walk = (name: string, trail: readonly string[]): readonly string[] | undefined => {
    if (trail.includes(name)) return [...trail.slice(trail.indexOf(name)), name];
    if (isDone.has(name)) return undefined;
    for (const imported of importsOf.get(name) ?? []) {
      const circle = walk(imported, [...trail, name]);
      if (circle) return circle;
    }
    isDone.add(name);
    return undefined;
  };
  for (const { name } of files) {
    const circle = walk(name, []);
    if (circle) return circle;
  }
  return undefined;
}

test('imports go down, or stay in their folder', () => {
  const wrong = FILES.flatMap(({ name, imports }) =>
    imports
      .filter((imported) => !mayImport(name, imported))
      .map((imported) => `${name} (${rankOf(name)}) -> ${imported} (${rankOf(imported)})`),
  );
  assert.deepEqual(wrong, []);
});

test('no file has more than 300 lines', () => {
  const long = FILES.filter(({ lineCount }) => lineCount > MAX_LINES);
  assert.deepEqual(
    long.map(({ name, lineCount }) => `${name} has ${lineCount} lines`),
    [],
  );
});

test('there are no import cycles', () => {
  assert.equal(findCircle(FILES)?.join(' -> '), undefined);
});

test('only the composition root names adapters', () => {
  const wrong = FILES.filter(({ name }) => !COMPOSITION.test(name)).flatMap(({ name, imports }) =>
    imports
      .filter((imported) => ADAPTERS.includes(imported) && folderOf(imported) !== folderOf(name))
      .map((imported) => `${name} -> ${imported}`),
  );
  assert.deepEqual(wrong, []);
});

test('time, randomness and environment are passed in', () => {
  const wrong = FILES.filter(({ name, reads }) => reads.length > 0 && !WORLD_READERS.test(name));
  assert.deepEqual(
    wrong.map(({ name, reads }) => `${name} reads ${reads.join(', ')}`),
    [],
  );
});

for (const [what, roots, needed] of [
  // valibot is bundled: only the functions in use are loaded, some 20 kB.
  ['serve', SERVE, ['better-sqlite3', 'pino', 'prom-client', 'valibot']],
  ['the writer thread', WRITER_THREAD, ['better-sqlite3']],
] as const) {
  test(`of packages, ${what} loads ${needed.join(', ')} alone; the others wait until they are needed`, () => {
    const loaded = [...loadedWith(roots, FILES)];
    const packages = loaded.filter((name) => !isOfProject(name) && !name.startsWith('node:'));
    assert.deepEqual(packages.sort(), needed);
  });

  test(`${what} imports no built-in module that loads megabytes`, () => {
    const wrong = [...loadedWith(roots, FILES)].filter((name) => HEAVY_BUILT_INS.includes(name));
    assert.deepEqual(wrong, []);
  });
}

test('serve loads nothing of other commands, and no store that is not configured', () => {
  const loaded = [...loadedWith(SERVE, FILES)];
  assert.deepEqual(
    loaded.filter((name) => NOT_FOR_SERVE.test(name)),
    [],
  );
});

test('the writer thread loads nothing but its store', () => {
  const loaded = [...loadedWith(WRITER_THREAD, FILES)].filter(isOfProject);
  const wrong = loaded.filter((name) => !/^(store|session|collect-garbage|clock)\b/.test(name));
  assert.deepEqual(wrong, []);
});

test('every name in these rules exists', () => {
  const names = new Set(FILES.map(({ name }) => name));
  const named = [...SERVE, ...WRITER_THREAD, ...ADAPTERS];
  assert.deepEqual(
    named.filter((name) => !names.has(name)),
    [],
  );
});

test('these rules detect what they must detect', () => {
  const text = `
    import type { A } from './a.ts';
    import { setTimeout as delay, setImmediate } from 'node:timers/promises';
    export { b } from '../clock.ts';
    void import('./c.ts');
    new Worker(new URL('./d.ts', import.meta.url));
    // Date.now()
    globalThis.setTimeout(() => process.env.X, Math.random());
    new Date(5);
    new Date();
    promisify(setInterval);
    socket.setTimeout(5);
    a({ setTimeout: 'Date.now()' });
    import { type B } from './b.ts';
    import 'redis';
    export type { C } from './c.ts';
    export * from '../fly.ts';
  `;
  const { imports, loads, reads } = readSource('store/x.ts', text);
  assert.deepEqual(imports, [
    ...['store/a.ts', 'clock.ts', 'store/c.ts', 'store/d.ts', 'store/b.ts', 'fly.ts'],
  ]);
  assert.deepEqual(loads, ['node:timers/promises', 'clock.ts', 'store/b.ts', 'redis', 'fly.ts']);
  assert.deepEqual(reads, [
    ...['setTimeout', 'process.env', 'Math.random', 'new Date()', 'setInterval'],
  ]);
  const circle = ['a', 'b', 'c'].map((name, i) => ({
    name,
    lineCount: 1,
    imports: ['bca'[i] ?? ''],
    loads: ['bcd'[i] ?? ''],
    reads: [],
  }));
  assert.deepEqual(findCircle(circle), ['a', 'b', 'c', 'a']);
  assert.equal(readSource('a.ts', '\n'.repeat(7)).lineCount, 7);
  assert.deepEqual([...loadedWith(['b'], circle)], ['b', 'c', 'd']);
});
