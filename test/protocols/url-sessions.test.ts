/** Ids in URLs: SockJS, Jupyter, WebDriver, the DevTools protocol, tus, WHIP. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OWN_PARAMETER } from '../../src/protocols/own-parameter.ts';
import { get, head, jsonWith, post, responseWith, upgrade } from './heads.ts';
import { headDiscoveries, testRequests, testResponses } from './preset-tables.ts';

const UUID = 'cd7e8b5a-3b7f-4b5e-9d3e-0123456789ab';
const OTHER = '11111111-2222-3333-4444-555555555555';
const HEX = '0123456789abcdef0123456789abcdef';
const JSON_OK = jsonWith(200);
const CREATED = jsonWith(201);

// prettier-ignore
for (const setting of ['sockjs', 'auto']) testRequests(setting, [
  ['a WebSocket', upgrade('/echo/012/abcd1234/websocket'), 'sockjs abcd1234'],
  ['a poll', post('/echo/012/abcd1234/xhr'), 'sockjs abcd1234'],
  ['a stream, with a query', post('/a/b/999/abcdefgh_ij/xhr_streaming?t=1'), 'sockjs abcdefgh_ij'],
  ['JSONP', get('/echo/000/abcd1234/jsonp?c=f'), 'sockjs abcd1234'],
  ['a file', get('/echo/000/abcd1234/htmlfile'), 'sockjs abcd1234'],
  ['none: the greeting', get('/echo'), 'none'],
  ['none: the info', get('/echo/info?t=1'), 'none'],
  ['none: the raw WebSocket', upgrade('/echo/websocket'), 'none'],
  ['none: another transport', get('/echo/012/abcd1234/polling'), 'none'],
  ['none: more path behind it', get('/echo/012/abcd1234/xhr/more'), 'none'],
  ['none: a server with a dot', get('/echo/0.2/abcd1234/xhr'), 'none'],
]);
// prettier-ignore
testRequests('sockjs', [['a server of any name', post('/echo/srv-a/abc/xhr_send'), 'sockjs abc']]);
// prettier-ignore
testRequests('auto', [
  ['none: a server of four digits', post('/echo/0123/abcd1234/xhr'), 'none'],
  ['none: a short session', post('/echo/012/abc/xhr'), 'none'],
  ['none: a session with a dash', post('/echo/012/abcd-1234/xhr'), 'none'],
]);

// prettier-ignore
for (const setting of ['jupyter', 'auto']) testRequests(setting, [
  ['the socket of a kernel', upgrade(`/api/kernels/${UUID}/channels?session_id=x`), `jupyter ${UUID}`],
  ['a kernel behind a prefix', get(`/user/ann/api/kernels/${UUID}`), `jupyter ${UUID}`],
  ['a session', head('PATCH', `/api/sessions/${UUID}`), `jupyter ${UUID}`],
  ['a restart', post(`/api/kernels/${UUID}/restart`), `jupyter ${UUID}`],
  ['none: the kernels', get('/api/kernels'), 'none'],
  ['none: the kernels, with a slash', get('/api/kernels/'), 'none'],
  ['none: a new session', post('/api/sessions'), 'none'],
  ['none: a number', get('/api/sessions/5'), 'none'],
  ['none: a word', get('/api/sessions/current'), 'none'],
  ['none: 36 characters that are no UUID', get(`/api/sessions/${'x'.repeat(36)}`), 'none'],
  ['none: another collection', get(`/api/users/${UUID}`), 'none'],
  ['none: a longer name', get(`/myapi/kernelspecs/${UUID}`), 'none'],
  ['none: in a query', get(`/x?/api/kernels/${UUID}`), 'none'],
]);
const KERNEL = { id: OTHER, name: 'python3' };
// prettier-ignore
for (const setting of ['jupyter', 'auto']) testResponses(setting, [
  ['a kernel', post('/api/kernels'), CREATED, JSON.stringify({ id: UUID, name: 'python3' }), [`jupyter ${UUID}`]],
  ['a session and its kernel', post('/api/sessions'), CREATED, JSON.stringify({ id: UUID, path: 'a.ipynb', kernel: KERNEL }), [`jupyter ${UUID}`, `jupyter ${OTHER}`]],
  ['one id twice is one', post('/api/sessions'), CREATED, JSON.stringify({ id: OTHER, kernel: KERNEL }), [`jupyter ${OTHER}`]],
  ['a session that gets another kernel', head('PATCH', `/api/sessions/${UUID}`), JSON_OK, JSON.stringify({ id: UUID, kernel: KERNEL }), [`jupyter ${UUID}`, `jupyter ${OTHER}`]],
  ['with more than 16 KB behind the ids', post('/api/sessions'), CREATED, JSON.stringify({ id: UUID, kernel: KERNEL, x: 'x'.repeat(20_000) }), [`jupyter ${UUID}`, `jupyter ${OTHER}`]],
  ['with the second id beyond 16 KB', post('/api/sessions'), CREATED, JSON.stringify({ id: UUID, x: 'x'.repeat(20_000), kernel: KERNEL }), [`jupyter ${UUID}`]],
  ['malformed JSON behind the id', post('/api/kernels'), CREATED, `{"id":"${UUID}",`, [`jupyter ${UUID}`]],
  ['nothing from malformed JSON', post('/api/kernels'), CREATED, `{"id":"${UUID}`, []],
  ['nothing from a list', get('/api/kernels'), JSON_OK, JSON.stringify([{ id: UUID }]), []],
  ['nothing from an error', post('/api/kernels'), jsonWith(500), JSON.stringify({ id: UUID }), []],
  ['nothing from another collection', post('/api/contents'), CREATED, JSON.stringify({ id: UUID }), []],
  ['nothing from text', post('/api/kernels'), responseWith(201, 'content-type', 'text/html'), JSON.stringify({ id: UUID }), []],
  ['no id that no request could carry', post('/api/sessions'), CREATED, JSON.stringify({ id: 5, kernel: { id: 'python3' } }), []],
]);

// prettier-ignore
for (const setting of ['webdriver', 'auto']) testRequests(setting, [
  ['a command', post(`/session/${HEX}/url`), `webdriver ${HEX}`],
  ['behind a prefix', get(`/wd/hub/session/${UUID}/title`), `webdriver ${UUID}`],
  ['the session itself', head('DELETE', `/session/${HEX}`), `webdriver ${HEX}`],
  ['BiDi', upgrade(`/session/${HEX}/se/bidi`), `webdriver ${HEX}`],
  ['none: a new session', post('/session'), 'none'],
  ['none: a new session, with a slash', post('/session/'), 'none'],
  ['none: a word', get('/session/new'), 'none'],
  ['none: the plural', get(`/sessions/${HEX}`), 'none'],
  ['none: a longer name', get(`/mysession/${HEX}`), 'none'],
  ['none: more than 64 characters', get(`/session/${'a'.repeat(65)}`), 'none'],
  ['none: the status', get('/status'), 'none'],
]);
// prettier-ignore
for (const setting of ['webdriver', 'auto']) testResponses(setting, [
  ['W3C', post('/session'), JSON_OK, JSON.stringify({ value: { capabilities: {}, sessionId: HEX } }), [`webdriver ${HEX}`]],
  ['the older protocol', post('/wd/hub/session'), JSON_OK, JSON.stringify({ status: 0, sessionId: HEX, value: {} }), [`webdriver ${HEX}`]],
  ['W3C counts first', post('/session'), JSON_OK, JSON.stringify({ sessionId: OTHER, value: { sessionId: HEX } }), [`webdriver ${HEX}`]],
  ['nothing from an error', post('/session'), jsonWith(500), JSON.stringify({ value: { error: 'x', sessionId: HEX } }), []],
  ['nothing beyond 16 KB', post('/session'), JSON_OK, JSON.stringify({ value: { x: 'x'.repeat(20_000), sessionId: HEX } }), []],
  ['nothing from a GET', get('/session'), JSON_OK, JSON.stringify({ sessionId: HEX }), []],
  ['nothing from a command', post(`/session/${HEX}/url`), JSON_OK, JSON.stringify({ sessionId: OTHER }), []],
  ['no id that no request could carry', post('/session'), JSON_OK, JSON.stringify({ sessionId: 'short' }), []],
]);
for (const [target, ends] of [
  [`/session/${HEX}`, true],
  [`/wd/hub/session/${HEX}/`, true],
  [`/session/${HEX}?a=/cookie`, true],
  [`/session/${HEX}/cookie`, false],
  [`/session/${HEX}/cookie/theme`, false],
  [`/session/${HEX}/cookie/session`, false],
  [`/session/${HEX}/window`, false],
  [`/session/${HEX}/actions`, false],
] as const) {
  test(`webdriver: DELETE ${target} ${ends ? 'ends the session' : 'ends nothing'}`, () => {
    const { hasEnded } = headDiscoveries('webdriver', head('DELETE', target), JSON_OK);
    assert.equal(hasEnded, ends);
  });
}

// prettier-ignore
for (const setting of ['cdp', 'auto']) testRequests(setting, [
  ['the socket of a browser', upgrade(`/devtools/browser/${UUID}`), `cdp ${UUID}`],
  ['the socket of a page, behind a prefix', upgrade(`/chrome/devtools/page/${HEX}?token=x`), `cdp ${HEX}`],
  ['a page to close', get(`/json/close/${HEX}`), `cdp ${HEX}`],
  ['a page to activate', get(`/json/activate/${HEX}`), `cdp ${HEX}`],
  ['none: the list', get('/json/list'), 'none'],
  ['none: a script of DevTools', get(`/devtools/inspector/${HEX}`), 'none'],
  ['none: a short id', get('/devtools/page/1'), 'none'],
  ['none: another call', get(`/json/show/${HEX}`), 'none'],
]);
const pageOf = (id: string): object => ({
  id,
  devtoolsFrontendUrl: `/devtools/inspector.html?ws=h:1/devtools/page/${id}`,
  webSocketDebuggerUrl: `ws://h:1/devtools/page/${id}`,
});
const VERSION = `{"Browser":"Chrome/1","webSocketDebuggerUrl":"ws:\\/\\/h:1\\/devtools\\/browser\\/${UUID}"}`;
// prettier-ignore
for (const setting of ['cdp', 'auto']) testResponses(setting, [
  ['the browser', get('/json/version'), JSON_OK, VERSION, [`cdp ${UUID}`]],
  ['a new page', head('PUT', '/json/new?about:blank'), JSON_OK, JSON.stringify(pageOf(HEX)), [`cdp ${HEX}`]],
  ['each page', get('/json/list'), JSON_OK, JSON.stringify([pageOf(HEX), pageOf(UUID)]), [`cdp ${HEX}`, `cdp ${UUID}`]],
  ['each page, by the short name', get('/json'), JSON_OK, JSON.stringify([pageOf(HEX)]), [`cdp ${HEX}`]],
  ['a URL that 16 KB cut off', get('/json/list'), JSON_OK, `[${JSON.stringify(pageOf(HEX))},"${'x'.repeat(16_384)}",${JSON.stringify(pageOf(UUID))}]`, [`cdp ${HEX}`]],
  ['the browser behind a prefix', get('/chrome/json/version?token=x'), JSON_OK, VERSION, [`cdp ${UUID}`]],
  ['nothing from the short name behind a prefix', get('/logs/json'), JSON_OK, VERSION, []],
  ['nothing from other JSON', get('/json/protocol'), JSON_OK, JSON.stringify(pageOf(HEX)), []],
  ['nothing from a longer name', get('/my-json/list2'), JSON_OK, JSON.stringify(pageOf(HEX)), []],
  ['nothing without a URL', get('/json/list'), JSON_OK, JSON.stringify([{ id: HEX }]), []],
]);

const TUS = ['Tus-Resumable', '1.0.0'];
// prettier-ignore
for (const setting of ['tus', 'auto']) testRequests(setting, [
  ['a part', head('PATCH', '/files/24e5+aBc', ...TUS), 'tus 24e5+aBc'],
  ['the offset', head('HEAD', '/files/24e5/?x=1', ...TUS), 'tus 24e5'],
  ['the end', head('DELETE', 'http://host/files/24e5', ...TUS), 'tus 24e5'],
  ['an escaped id', head('PATCH', '/files/a%2Fb', ...TUS), 'tus a/b'],
  ['none: a new upload', post('/files/24e5', ...TUS), 'none'],
  ['none: a request without the header', head('PATCH', '/files/24e5'), 'none'],
  ['none: the root', head('PATCH', '/', ...TUS), 'none'],
]);
// prettier-ignore
for (const setting of ['tus', 'auto']) testResponses(setting, [
  ['an absolute Location', post('/files', ...TUS), responseWith(201, 'Location', 'https://h/files/24e5?a=/b'), '', ['tus 24e5']],
  ['a path', post('/files', ...TUS), responseWith(201, 'Location', '/up/24e5/'), '', ['tus 24e5']],
  ['a path without a scheme', post('/files', ...TUS), responseWith(201, 'Location', '//h/files/24e5'), '', ['tus 24e5']],
  ['a relative Location', post('/files/', ...TUS), responseWith(201, 'Location', '24e5'), '', ['tus 24e5']],
  ['a relative Location of dots', post('/files/new?a', ...TUS), responseWith(201, 'Location', './../up/24e5?b'), '', ['tus 24e5']],
  ['an escaped id', post('/files', ...TUS), responseWith(201, 'Location', '/files/a%2Fb'), '', ['tus a/b']],
  ['nothing from a POST of another protocol', post('/files'), responseWith(201, 'Location', '/files/24e5'), '', []],
  ['nothing from a PATCH', head('PATCH', '/files/1', ...TUS), responseWith(204, 'Location', '/files/24e5'), '', []],
  ['nothing from a Location without a name', post('/files', ...TUS), responseWith(201, 'Location', '/'), '', []],
]);

const SDP = ['Content-Type', 'application/sdp'];
const HOSTED = { ...post('/whip/room', ...SDP), host: 'h' };
const OWN = `${OWN_PARAMETER}=whip-token~me`;
// prettier-ignore
for (const setting of ['whip', 'auto']) {
  testRequests(setting, [
    ['its parameter', head('DELETE', `/r/1?${OWN_PARAMETER}=whip-abc~m1`), 'whip whip-abc ~m1'],
    ['its parameter behind others', head('PATCH', `/r/1?a=b&${OWN_PARAMETER}=whip-abc`), 'whip whip-abc'],
    ['none: without it', head('DELETE', '/r/1'), 'none'],
    ['none: a new resource', post('/whip/room', ...SDP), 'none'],
  ]);
  testResponses(setting, [
    ['a path', HOSTED, responseWith(201, 'Location', '/r/1'), 'v=0', ['whip whip-token']],
    ['nothing on another host', HOSTED, responseWith(201, 'Location', 'https://other/r/1'), 'v=0', []],
    ['nothing from a POST of another type', { ...post('/whip/room'), host: 'h' }, responseWith(201, 'Location', '/r/1'), '', []],
    ['nothing from a PATCH', { ...HOSTED, method: 'PATCH' }, responseWith(200, 'Location', '/r/1'), '', []],
    ['nothing without a Location', HOSTED, responseWith(201), 'v=0', []],
  ]);
}
testRequests('auto', [
  ['of other values it is that of MCP', get(`/m?${OWN_PARAMETER}=abc`), 'mcp-sse abc'],
]);

for (const [location, shown] of [
  ['/r/1', `/r/1?${OWN}`],
  ['/r/1?a=b', `/r/1?a=b&${OWN}`],
  ['r/1#c', `r/1?${OWN}#c`],
  ['http://H:80/r/1', `http://H:80/r/1?${OWN}`],
  ['https://other/r/1', 'https://other/r/1'],
] as const) {
  test(`whip: the client gets ${shown} for ${location}`, () => {
    const response = responseWith(201, 'Location', location, 'ETag', 'x');
    const { rawHeaders } = headDiscoveries('whip', HOSTED, response);
    assert.deepEqual(rawHeaders, ['Location', shown, 'ETag', 'x']);
  });
}
