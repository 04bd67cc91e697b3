import { parseCookieDate } from '../../src/protocols/cookie.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';

const NOVEMBER_6 = Date.UTC(1994, 10, 6, 8, 49, 37);

// prettier-ignore
const DATES: readonly (readonly [text: string, ms: number | undefined])[] = [
  ['Sun, 06 Nov 1994 08:49:37 GMT', NOVEMBER_6],
  ['Sunday, 06-Nov-94 08:49:37 GMT', NOVEMBER_6],
  ['Sun, 06-Nov-1994 08:49:37 GMT', NOVEMBER_6],
  ['Sun Nov  6 08:49:37 1994', NOVEMBER_6],
  ['1994 nov 6 8:49:37', NOVEMBER_6],
  ['Thu, 01 Jan 1970 00:00:00 GMT', 0],
  ['Thu, 01-Jan-70 00:00:00 GMT', 0],
  ['Fri, 31 Dec 9999 23:59:59 GMT', Date.UTC(9999, 11, 31, 23, 59, 59)],
  ['Tue, 01 Jan 2069 00:00:00', Date.UTC(2069, 0, 1)],
  ['01 Jan 69 00:00:00', Date.UTC(2069, 0, 1)],
  ['', undefined],
  ['0', undefined],
  ['-1', undefined],
  ['Sun, 06 Nov 1994', undefined],
  ['06 Nov 1994 24:00:00', undefined],
  ['06 Nov 1994 08:60:00', undefined],
  ['32 Nov 1994 08:49:37', undefined],
  ['00 Nov 1994 08:49:37', undefined],
  ['31 Feb 1994 08:49:37', undefined],
  ['06 Nov 1600 08:49:37', undefined],
  ['06 Foo 1994 08:49:37', undefined],
];
for (const [text, ms] of DATES) {
  test(`"${text}" is ${ms ?? 'no date'}`, () => assert.equal(parseCookieDate(text), ms));
}
