import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { addSidecar } from '../../src/init/dockerfile-edit.ts';
import { parseDockerfile, targetOf } from '../../src/init/dockerfile.ts';
import { readImage, type Image } from '../../src/init/image.ts';
import { withoutMarks } from '../../src/init/marks.ts';
import { readVersion } from '../../src/package.ts';

function imageOf(text: string, target?: string): Image {
  const dockerfile = parseDockerfile(text);
  const stage = targetOf(dockerfile, target);
  assert.ok(stage);
  return readImage(dockerfile, stage);
}

/** As the entry point of an image that has its own user. */
function edited(text: string, runAs?: string, version = '1.2.3'): string {
  const dockerfile = parseDockerfile(text);
  const stage = targetOf(dockerfile);
  assert.ok(stage);
  const image = readImage(dockerfile, stage);
  const prefix = ['/opt/fly-affinity/start', 'run', '--'];
  return addSidecar(dockerfile, {
    ...{ stage, image, runAs, prefix, version, isEntrypoint: true },
  });
}

for (const [name, text, expected] of [
  ['in the form of a list', 'FROM a\nCMD [ "b", "c d" ]', ['b', 'c d']],
  ['for a shell', 'FROM a\nCMD b "c d"', ['/bin/sh', '-c', 'b "c d"']],
  ['for another shell', 'FROM a\nSHELL ["/bin/bash", "-ec"]\nCMD b', ['/bin/bash', '-ec', 'b']],
  ['in the form of a list that is not JSON', "FROM a\nCMD ['b']", ['/bin/sh', '-c', "['b']"]],
  [
    'over several lines, with comments',
    'FROM a\nCMD b \\\n  # no\n\n  c \\\n d',
    ['/bin/sh', '-c', 'b c d'],
  ],
  [
    'with another character that continues lines',
    '# escape=`\nFROM a\nCMD b `\n c',
    ['/bin/sh', '-c', 'b c'],
  ],
  ['in small letters', 'from a\ncmd ["b"]', ['b']],
  ['the last of several', 'FROM a\nCMD ["x"]\nCMD ["b"]', ['b']],
  ['not that in the text of a script', 'FROM a\nCMD ["b"]\nRUN <<EOF\nCMD ["x"]\nEOF\n', ['b']],
  ['that of the stage before', 'FROM a AS x\nCMD ["b"]\nFROM x', ['b']],
  ['that of the base', 'FROM nginx:1', ['nginx', '-g', 'daemon off;']],
  ['none behind an ENTRYPOINT of its own', 'FROM nginx:1\nENTRYPOINT ["x"]', undefined],
  ['none', 'FROM a', undefined],
] as const) {
  test(`the command of an image: ${name}`, () => {
    assert.deepEqual(imageOf(text).cmd?.words, expected);
  });
}

for (const [name, text, expected] of [
  ['the last USER', 'FROM a\nUSER b\nUSER c', 'c'],
  ['that of the stage before', 'FROM a AS x\nUSER b\nFROM x\nRUN y', 'b'],
  ['not that of another stage', 'FROM a AS x\nUSER b\nFROM a', undefined],
  ['that of the base', 'FROM bitnami/node:24', '1001'],
] as const) {
  test(`the user of an image: ${name}`, () => {
    assert.equal(imageOf(text).user, expected);
  });
}

test('variables and ports are those of the whole chain of stages', () => {
  const { env, exposed } = imageOf(
    'ARG V=1\nFROM a:$V AS x\nENV A=1 B="two words" \\\n C=3\nFROM x\nENV A ${B} more\nEXPOSE 80/tcp 53/udp $C',
  );
  assert.deepEqual(Object.fromEntries(env), { A: 'two words more', B: 'two words', C: '3' });
  assert.deepEqual(exposed, [80, 3]);
});

for (const [reference, libc, obstacle, hasNode] of [
  ['node:24-slim', 'glibc', false, true],
  ['node:22', 'glibc', false, true],
  ['node:22.18.0-slim', 'glibc', false, false],
  ['node:20-alpine', 'musl', false, false],
  ['docker.io/library/node:lts-alpine3.22', 'musl', false, true],
  ['node', 'glibc', false, true],
  ['python:3.12-slim-bullseye', 'glibc', true, false],
  ['alpine:3.22', 'musl', false, false],
  ['scratch', 'unknown', true, false],
  ['gcr.io/distroless/nodejs22-debian12', 'unknown', true, false],
  ['ubuntu:20.04', 'glibc', true, false],
  ['ubuntu:24.04@sha256:abc', 'glibc', false, false],
  ['registry.example.com:5000/team/base', 'unknown', false, false],
] as const) {
  test(`the image ${reference}: ${libc}${obstacle ? ', not possible' : ''}${hasNode ? ', has Node.js' : ''}`, () => {
    const { base } = imageOf(`FROM ${reference}`);
    assert.deepEqual(
      [base.libc, base.obstacle !== undefined, base.hasNode],
      [libc, obstacle, hasNode],
    );
  });
}

test('build arguments name the base, and a target the stage', () => {
  const text =
    'ARG A=python\nARG B="${A}:3"\nFROM --platform=$X ${B}-slim AS One\nFROM debian:12\n';
  assert.equal(imageOf(text, 'one').baseName, 'python:3-slim');
  assert.equal(imageOf(text).baseName, 'debian:12');
  assert.equal(targetOf(parseDockerfile(text), 'three'), undefined);
});

for (const [name, text] of [
  ['a file without a line break at its end', 'FROM python:3\nCMD ["a"]'],
  ['lines of Windows', 'FROM python:3\r\nUSER a\r\nCMD ["a"]\r\n'],
  ['a USER behind the command', 'FROM python:3\nENTRYPOINT ["a"]\nUSER b\n'],
  ['a command in another stage', 'FROM python:3 AS x\nCMD ["a"]\nFROM x\nRUN b\n'],
  ['stages with numbers', 'FROM a\nFROM python:3\nCOPY --from=0 x y\nCMD a\n'],
] as const) {
  test(`puts the sidecar in and takes it out: ${name}`, () => {
    const after = edited(text, 'b');
    assert.equal(withoutMarks(after).trimEnd(), text.trimEnd());
    const image = imageOf(after);
    assert.deepEqual(image.entrypoint?.words.slice(0, 3), ['/opt/fly-affinity/start', 'run', '--']);
    assert.equal(image.user, 'root');
    assert.equal(image.env.get('FLY_AFFINITY_RUN_AS'), 'b');
    const whole = (each: Image): readonly string[] => [
      ...(each.entrypoint?.words ?? []),
      ...(each.cmd?.words ?? []),
    ];
    assert.deepEqual(whole(image).slice(3), whole(imageOf(text)));
    if (text.includes('\r')) assert.ok(!/[^\r]\n/.test(after), 'all its lines end alike');
  });
}

test('parser directives stay at the top, and numbers of stages mean the same stages', () => {
  const after = edited(
    '# syntax=docker/dockerfile:1\nFROM a\nFROM python:3\nCOPY --from=0 x y\nCMD a\n',
  );
  assert.ok(after.startsWith('# syntax=docker/dockerfile:1\nFROM a\n'));
  const { stages } = parseDockerfile(after);
  assert.deepEqual(
    stages.map(({ base }) => base),
    ['a', 'node:24-slim', 'python:3'],
  );
});

test('a musl image gets what Node.js and start need, as root, and keeps its user', () => {
  const after = edited('FROM python:3-alpine\nUSER a\nCMD ["b"]\n');
  const { stages } = parseDockerfile(after);
  assert.equal(stages[0]?.base, 'node:24-alpine');
  const steps = stages[1]?.instructions.map(({ name, rest }) => `${name} ${rest}`) ?? [];
  assert.deepEqual(steps.slice(2, 5), ['USER root', 'RUN apk add --no-cache libstdc++', 'USER a']);
});

test('the documentation shows by hand what init writes', async () => {
  const page = await readFile(new URL('../../src/docs/operations.md', import.meta.url), 'utf8');
  const shown = [...page.matchAll(/^```dockerfile\n([^]*?)^```/gm)].map(([, text = '']) => text);
  assert.equal(shown.length, 2);
  for (const text of shown) {
    const app = withoutStage(text);
    const written = edited(app, undefined, readVersion());
    assert.deepEqual(instructionsIn(text), instructionsIn(written));
  }
});

/** The Dockerfile of the app alone. */
function withoutStage(text: string): string {
  const [, app = ''] = text.split(/^(?=FROM (?!.* AS fly-affinity))/m);
  return app.replaceAll(/^(COPY --from=fly-affinity|ENTRYPOINT) .*\n/gm, '');
}

function instructionsIn(text: string): readonly string[] {
  return parseDockerfile(text).stages.flatMap(({ from, instructions }) =>
    [from, ...instructions].map(({ name, rest }) => `${name} ${rest}`),
  );
}
