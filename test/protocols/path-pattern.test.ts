import { createRequestIdReader } from '../../src/protocols/request-ids.ts';
import { createPathMask } from '../../src/protocols/id-locations.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_PATH_CHARACTERS, parsePathPattern } from '../../src/protocols/path-pattern.ts';
import { get, protocolsOf } from './heads.ts';

function idIn(pattern: string, target: string): string | undefined {
  const ids = createRequestIdReader(protocolsOf(`path:${pattern}`), { hints: true })(get(target));
  return ids.kind === 'found' ? ids.id : undefined;
}

// prettier-ignore
const FOUND: readonly (readonly [claim: string, pattern: string, target: string, id: string | undefined])[] = [
  ['SockJS', '^/echo/[^/]+/([^/]+)/', '/echo/000/abc/xhr_streaming', 'abc'],
  ['SockJS without a session', '^/echo/[^/]+/([^/]+)/', '/echo/info', undefined],
  ['the query is not part of the path', '^/a/([^/]+)$', '/a/abc?b=/a/def', 'abc'],
  ['nor is a query alone', '^/a/([^/]+)', '/?x=/a/abc', undefined],
  ['escapes are decoded', '^/a/([^/]+)', '/a/%61b', 'ab'],
  ['an invalid id is ignored', '^/a/([^/]+)', '/a/a%0ab', undefined],
  ['a space and letters beyond ASCII belong to the id', '^/a/([^/]+)', '/a/a%20b%C3%BC', 'a b\xc3\xbc'],
  ['a suffix like a hint belongs to the id', '^/a/([^/]+)', '/a/b~m1', 'b~m1'],
  ['the first group counts', '^/(?:a|b)/(?<id>[^/]+)/([^/]+)', '/b/one/two', 'one'],
  ['a group that did not match has no id', '^/a(?:/(b))?/c', '/a/c', undefined],
  ['a path is case-sensitive', '^/a/([^/]+)', '/A/abc', undefined],
  ['an id that reaches the search limit may continue', '^/([^/]+)', `/${'x'.repeat(MAX_PATH_CHARACTERS)}`, undefined],
  ['an id that begins beyond the limit is ignored', '^/[^/]+/([^/]+)', `/${'x'.repeat(MAX_PATH_CHARACTERS)}/abc`, undefined],
];
for (const [claim, pattern, target, id] of FOUND) {
  test(`an id in a path: ${claim}`, () => assert.equal(idIn(pattern, target), id));
}

// prettier-ignore
const TAKEN: readonly string[] = [
  '^/([^/]+)', '^/([^/]*)/', '^/ws/([0-9a-f]{8,32})$', '^/(\\d+)/', '^/([^/]+?)/x', '^/(.+)$', '^/s-([^/-]+)-\\w+$',
  '^/(?:chat|game|echo)/([^/]+)/', '^/a/?b/(\\w{4})', '^/([^/]+)(?:/)', '^/((?:ab))[a-c]{3}', '^/([^\\]/]+)/',
];
for (const pattern of TAKEN) {
  test(`${pattern} is accepted`, () => assert.equal(parsePathPattern(pattern).mistake, undefined));
}

// prettier-ignore
const REJECTED: readonly (readonly [pattern: string, mistake: RegExp])[] = [
  ['^/(', /^is no regular expression$/],
  ['^/[^/]+/x', /^has no group/],
  ['^/(?:a)', /^has no group/],
  ['/ws/([^/]+)', /^must begin with \^$/],
  ['^/(a+)+$', /^repeats a group \("\)\+"\)/],
  ['^/(?:a|a)*(b)', /^repeats a group/],
  ['^/((?:a?){20})', /^repeats a group/],
  ['^/([a-z]+)*$', /^repeats a group/],
  ['^/.*/([^/]+)', /^repeats \. with \/ behind it/],
  ['^/(\\w+)\\d', /^repeats \\w with \\d behind it/],
  ['^/([^/]+)[^/]+/', /^repeats \[\^\/\] with \[\^\/\] behind it/],
  ['^/([^/]+)/*x', /^repeats \[\^\/\] with \/ behind it/],
  ['^/([^/]+)/?x', /^repeats \[\^\/\] with \/ behind it/],
  ['^/([^/]+)/{0}[^/]+', /^repeats \[\^\/\] with \/ behind it/],
  ['^/([^/]+)(?:/|x)', /^repeats \[\^\/\] with \/ behind it/],
  ['^/([^/]+)(?:/)?[^/]', /^repeats \[\^\/\] with \/ behind it/],
  ['^/(?:[^/]+/|x)(a)', /^repeats within alternatives/],
  ['^/(?:[^/]+/)?(a)', /^repeats within alternatives/],
  ['^/(a)|b', /^has \| outside of a group$/],
  ['^/(a)?b?c?d?e?f?g?h?i?', /^has more than 8 of \| and \?$/],
  ['^/(a)\\1', /^may not use "\\\\1"$/],
  ['^/(a)(?=b)', /^may not use "\(\?="$/],
  ['^/(a)(?<!b)', /^may not use "\(\?<"$/],
  ['^/(a)\\b', /^may not use "\\\\b"$/],
  ['^/(a)$b', /^may not use "\$b"$/],
];
for (const [pattern, mistake] of REJECTED) {
  test(`${pattern} is rejected`, () => {
    assert.match(parsePathPattern(pattern).mistake ?? 'taken', mistake);
  });
}

test('an accepted pattern is matched in short time, whatever path a client sends', () => {
  const anyPiece = fc.constantFrom(
    ...[
      'a',
      '/',
      '[^/]',
      '\\w',
      '.',
      'a+',
      '[^/]+',
      '\\w*',
      '.*',
      'a{2,}',
      'a?',
      '(?:',
      '(',
      ')',
      ')?',
      ')*',
      '|',
    ],
  );
  const anyPattern = fc
    .array(anyPiece, { maxLength: 14 })
    .map((pieces) => `^/(a)${pieces.join('')}`);
  const longest = MAX_PATH_CHARACTERS - 2;
  // prettier-ignore
  const paths = ['a'.repeat(longest), '/a'.repeat(longest / 2), `${'a'.repeat(longest / 2)}/${'a'.repeat(longest / 2)}`].map((rest) => `/a${rest}\0`);
  let taken = 0;
  fc.assert(
    fc.property(anyPattern, (source) => {
      const { pattern } = parsePathPattern(`${source}!`);
      if (!pattern) return;
      taken += 1;
      // A backtracking engine would need longer than the test may run.
      for (const path of paths) pattern.exec(path);
    }),
    { numRuns: 5_000 },
  );
  assert.ok(taken > 100, `${taken} were accepted`);
});

test('a log shows no id from a path', () => {
  const mask = createPathMask(protocolsOf('mcp,path:^/a/[^/]+/([^/]+)/,path:^/b/([^/]+)'));
  assert.equal(mask('/a/000/secret/xhr'), '/a/000/******/xhr');
  assert.equal(mask('/b/%61b'), '/b/****');
  assert.equal(mask('/c/000/public/xhr'), '/c/000/public/xhr');
  const long = mask(`/b/${'s'.repeat(2 * MAX_PATH_CHARACTERS)}`);
  assert.equal(long.slice(0, MAX_PATH_CHARACTERS).replace(/^\/b\/\*+$/, 'masked'), 'masked');
});
