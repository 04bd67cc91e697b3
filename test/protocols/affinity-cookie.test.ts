import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  createAffinityCookie,
  type AffinityCookieOptions,
} from '../../src/protocols/affinity-cookie.ts';
import type { RequestHead } from '../../src/protocols/heads.ts';
import { machineId } from '../support/ids.ts';

const SELF = machineId('a1');
const TTL_MS = 600_000;
const NOW_SECONDS = 1_800_000_000;
const NOW = NOW_SECONDS.toString(36);

function at(seconds: number): string {
  return (NOW_SECONDS + seconds).toString(36);
}

const OPTIONS: AffinityCookieOptions = {
  ...{ name: 'aff', isCrossSite: false, isPartitioned: false },
  ...{ self: SELF, ttlMs: TTL_MS, clock: { now: () => NOW_SECONDS * 1_000 + 700 } },
};
const cookie = createAffinityCookie(OPTIONS);

function request(...cookies: string[]): RequestHead {
  const rawHeaders = ['Host', 'x', ...cookies.flatMap((value) => ['Cookie', value])];
  return { method: 'GET', target: '/', rawHeaders };
}

for (const [claim, cookies, machine] of [
  ['a cookie names its Machine', [`aff=b2.${NOW}`], 'b2'],
  ['other cookies are ignored', [`a=1; aff=b2.${NOW}; b=2`], 'b2'],
  ['it may be in quotes', [`aff="b2.${NOW}"`], 'b2'],
  ['it may be in a second header line', ['a=1', `aff=b2.${NOW}`], 'b2'],
  ['a duplicate counts once', [`aff=b2.${NOW}; aff=b2.${NOW}`], 'b2'],
  ['two different ones name two', [`aff=b2.${NOW}; aff=c3.${NOW}`], 'b2,c3'],
  ['without a cookie there is none', ['a=1'], ''],
  ['an empty one is ignored', ['aff='], ''],
  ['one without its time was not set by a sidecar', ['aff=b2'], ''],
  ['an invalid Machine id is ignored', [`aff=B2.${NOW}`], ''],
  ['a character that could end a header is ignored', [`aff=b2;x=1.${NOW}`], ''],
  ['another name is another cookie', [`affinity=b2.${NOW}; xaff=b2.${NOW}`], ''],
] as const) {
  test(`read: ${claim}`, () => {
    assert.equal(cookie.read(request(...cookies)).join(), machine);
  });
}

for (const [claim, cookies, left] of [
  ['alone, its header is removed with it', [`aff=b2.${NOW}`], []],
  ['others stay unchanged', [`a=1; aff=b2.${NOW}; b="2"`], ['Cookie', 'a=1; b="2"']],
  ['at the beginning', [`aff=b2.${NOW}; a=1`], ['Cookie', 'a=1']],
  [
    'an invalid affinity cookie is removed too: the name is ours',
    ['aff=x; a=1'],
    ['Cookie', 'a=1'],
  ],
  ['every occurrence is removed', [`aff=1; a=1; aff=2`, 'aff=3'], ['Cookie', 'a=1']],
] as const) {
  test(`the app does not receive it: ${claim}`, () => {
    assert.deepEqual(cookie.removeFrom(request(...cookies).rawHeaders), ['Host', 'x', ...left]);
  });
}

test('headers without it are passed unchanged', () => {
  const { rawHeaders } = request('a=1');
  assert.equal(cookie.removeFrom(rawHeaders), rawHeaders);
});

function setCookies(rawHeaders: readonly string[]): string[] {
  return rawHeaders.flatMap((name, i) =>
    i % 2 === 0 && name === 'set-cookie' ? [rawHeaders[i + 1] ?? ''] : [],
  );
}

const LATER = new Date((NOW_SECONDS + 3_600) * 1_000).toUTCString();
const LINE = `aff=a1.${NOW}; Path=/; Max-Age=600; HttpOnly; SameSite=Lax`;

for (const [claim, sent, lines] of [
  ['the first response sets it', [], [LINE]],
  ['the cookie of another Machine is replaced', [`aff=b2.${NOW}`], [LINE]],
  ['a fresh one is kept', [`aff=a1.${at(-59)}`], []],
  ['it is renewed: after a tenth of its time it is set again', [`aff=a1.${at(-60)}`], [LINE]],
  ['an expired one is set again', [`aff=a1.${at(-700)}`], [LINE]],
  ['one from the future is set again', [`aff=a1.${at(3)}`], [LINE]],
  ['one whose clock is a second ahead is fresh', [`aff=a1.${at(1)}`], []],
  ['two of this Machine, one of them fresh, are kept', [`aff=a1.${NOW}; aff=a1.${at(-700)}`], []],
  ['two different ones are replaced', [`aff=a1.${NOW}; aff=b2.${NOW}`], [LINE]],
] as const) {
  test(`set: ${claim}`, () => {
    const response = { statusCode: 200, rawHeaders: ['x-app', '1'] };
    const added = cookie.addTo(response, request(...sent));
    assert.deepEqual(setCookies(added), lines);
    assert.deepEqual(added.slice(0, 2), response.rawHeaders);
  });
}

for (const [claim, statusCode, rawHeaders, method, isSet] of [
  ['an upgrade', 101, [], 'GET', true],
  ['an error of the app', 500, [], 'GET', true],
  ['a private response', 200, ['cache-control', 'private, max-age=5'], 'GET', true],
  ['not an interim response', 103, [], 'GET', false],
  ['not a preflight', 204, [], 'OPTIONS', false],
  ['not a response that the app has replayed', 200, ['fly-replay', 'region=iad'], 'GET', false],
  ['not a public response', 200, ['Cache-Control', 'max-age=5, public'], 'GET', false],
  ['not a cacheable response', 200, ['Cache-Control', 'max-age=31536000'], 'GET', false],
  ['an already stale response', 200, ['Cache-Control', 'max-age=0, must-revalidate'], 'GET', true],
  ['a no-store response', 200, ['Cache-Control', 'no-store, max-age=5'], 'GET', true],
  [
    'not a response with a length of life in quotes',
    200,
    ['Cache-Control', 'max-age="600"'],
    'GET',
    false,
  ],
  [
    'not a response whose length of life begins with a zero',
    200,
    ['Cache-Control', 'max-age=0600'],
    'GET',
    false,
  ],
  ['not a response that expires later', 200, ['Expires', LATER], 'GET', false],
  ['a response that has expired', 200, ['Expires', 'Thu, 01 Jan 1970 00:00:00 GMT'], 'GET', true],
  ['a response with an invalid date', 200, ['Expires', '0'], 'GET', true],
  [
    'a private response that expires later',
    200,
    ['Expires', LATER, 'cache-control', 'private'],
    'GET',
    true,
  ],
  [
    'a stale response that expires later',
    200,
    ['Expires', LATER, 'cache-control', 'max-age=0'],
    'GET',
    true,
  ],
  [
    'not a private response that a CDN keeps',
    200,
    ['cache-control', 'private', 'CDN-Cache-Control', 'max-age=60'],
    'GET',
    false,
  ],
  [
    'not a private response that a surrogate keeps',
    200,
    ['cache-control', 'private', 'Surrogate-Control', 'max-age=60'],
    'GET',
    false,
  ],
  [
    'not a response that only some CDNs may not keep',
    200,
    ['CDN-Cache-Control', 'no-store', 'cache-control', 'max-age=60'],
    'GET',
    false,
  ],
  [
    'not a public response that a surrogate may not keep',
    200,
    ['Surrogate-Control', 'no-store', 'cache-control', 'public, max-age=60'],
    'GET',
    false,
  ],
  [
    'not a response that one CDN keeps',
    200,
    ['Cloudflare-CDN-Cache-Control', 'max-age=60'],
    'GET',
    false,
  ],
  [
    'a private response that no CDN keeps',
    200,
    ['CDN-Cache-Control', 'no-store', 'cache-control', 'private'],
    'GET',
    true,
  ],
  [
    'not a response of which one field is private',
    200,
    ['cache-control', 'max-age=60, private="x-foo"'],
    'GET',
    false,
  ],
  [
    'not a response whose first length of life counts',
    200,
    ['cache-control', 'max-age=60, max-age=0'],
    'GET',
    false,
  ],
  [
    'not a response with directives over two lines',
    200,
    ['cache-control', 'no-transform', 'cache-control', 'max-age=60'],
    'GET',
    false,
  ],
  ['not a response for a shared cache', 200, ['cache-control', 's-maxage=5'], 'GET', false],
] as const) {
  test(`set on: ${claim}`, () => {
    const added = cookie.addTo({ statusCode, rawHeaders }, { ...request(), method });
    assert.equal(setCookies(added).length, isSet ? 1 : 0);
  });
}

test('behind https it is Secure', () => {
  const { rawHeaders, ...rest } = request();
  const encrypted = { ...rest, rawHeaders: [...rawHeaders, 'X-Forwarded-Proto', 'https'] };
  const added = cookie.addTo({ statusCode: 200, rawHeaders: [] }, encrypted);
  assert.match(setCookies(added)[0] ?? '', /; HttpOnly; Secure; SameSite=Lax$/);
});

for (const [claim, options, attributes] of [
  ['for frames', { isCrossSite: true }, 'Secure; SameSite=None'],
  [
    'for frames, once a surrounding site',
    { isCrossSite: true, isPartitioned: true },
    'Secure; SameSite=None; Partitioned',
  ],
] as const) {
  const forFrames = createAffinityCookie({ ...OPTIONS, ...options });
  const named = request(`aff=a1.${at(-60)}`);
  const encrypted = { ...named, rawHeaders: [...named.rawHeaders, 'X-Forwarded-Proto', 'https'] };

  test(`behind https, a cookie ${claim} is set and expired with its attributes`, () => {
    const [line] = setCookies(forFrames.addTo({ statusCode: 200, rawHeaders: [] }, encrypted));
    assert.equal(line, `aff=a1.${NOW}; Path=/; Max-Age=600; HttpOnly; ${attributes}`);
    const [expired] = setCookies(forFrames.expire(encrypted));
    assert.equal(expired, `aff=; Path=/; Max-Age=0; ${attributes}`);
  });

  test(`without https, a cookie ${claim} is one of its site: a browser would drop it otherwise`, () => {
    const [line] = setCookies(forFrames.addTo({ statusCode: 200, rawHeaders: [] }, named));
    assert.equal(line, LINE);
  });
}

test('a sidecar reads the cookie that it sets', () => {
  const [line = ''] = setCookies(cookie.addTo({ statusCode: 200, rawHeaders: [] }, request()));
  assert.deepEqual(cookie.read(request(line.split(';')[0] ?? '')), [SELF]);
});
