/** The session cookies of Express, Java, PHP and ASP.NET. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { get, post, responseWith } from './heads.ts';
import { headDiscoveries, testRequests, testResponses } from './preset-tables.ts';

// prettier-ignore
for (const [setting, cookie] of [
  ['express', 'connect.sid'],
  ['java', 'JSESSIONID'],
  ['php', 'PHPSESSID'],
  ['aspnet', '.AspNetCore.Session'],
  ['aspnet', 'ASP.NET_SessionId'],
] as const) {
  testRequests(setting, [
    [`${cookie}, with a hint`, get('/', 'cookie', `a=1; ${cookie}=abc~m1`), `${setting} abc ~m1`],
    [`none: ${cookie} in another case`, get('/', 'cookie', `${cookie.toUpperCase()}x=abc`), 'none'],
  ]);
  testResponses(setting, [
    [cookie, post('/login'), responseWith(302, 'Set-Cookie', `${cookie}=abc; Path=/; HttpOnly`), '', [`${setting} abc`]],
    [`nothing from ${cookie} that expires`, post('/logout'), responseWith(200, 'Set-Cookie', `${cookie}=; Max-Age=0`), '', []],
  ]);
  testRequests('auto', [[`none: ${cookie}`, get('/', 'cookie', `${cookie}=abc~m1`), 'none']]);
  testResponses('auto', [[`nothing from ${cookie}`, get('/'), responseWith(200, 'Set-Cookie', `${cookie}=abc`), '', []]]);
  test(`auto: ${cookie} stays as it is`, () => {
    const response = responseWith(200, 'Set-Cookie', `${cookie}=abc; Path=/`);
    assert.equal(headDiscoveries('auto', get('/'), response).rawHeaders, undefined);
  });
}

// prettier-ignore
for (const setting of ['java', 'auto']) {
  testRequests(setting, [
    ['an id in the path', get('/shop/cart;jsessionid=A1B2.node1?x=1'), 'java A1B2.node1'],
    ['an id within the path', get('/shop;jsessionid=A1B2/cart'), 'java A1B2'],
    ['an id before another parameter', get('/shop;jsessionid=A1B2;v=1'), 'java A1B2'],
    ['none: another parameter', get('/shop;session=A1B2'), 'none'],
    ['none: an empty one', get('/shop;jsessionid='), 'none'],
    ['none: in a query', get('/shop?a=;jsessionid=A1B2'), 'none'],
  ]);
  testResponses(setting, [
    ['the Location', post('/login'), responseWith(302, 'Location', 'https://h/shop;jsessionid=A1B2?x=1'), '', ['java A1B2']],
    ['a relative Location', post('/login'), responseWith(302, 'Location', 'shop;jsessionid=A1B2'), '', ['java A1B2']],
    ['nothing from another Location', post('/login'), responseWith(302, 'Location', '/shop?a=;jsessionid=A1B2'), '', []],
    ['nothing new in a request with that id', get('/a;jsessionid=A1B2'), responseWith(302, 'Location', '/b;jsessionid=A1B2'), '', []],
  ]);
}
