/** Gradio, OpenAI's Responses API, caches of prompts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createBodyCheck, createRequestIdReader } from '../../src/protocols/request-ids.ts';
import { get, head, jsonWith, post, postJson, protocolsOf, responseWith } from './heads.ts';
import { testRequests, testResponses } from './preset-tables.ts';

const JSON_OK = jsonWith(200);
const EVENT = '0123456789abcdef0123456789abcdef';
const HASH = JSON.stringify({ data: [], fn_index: 0, session_hash: 'abc123xyz' });

// prettier-ignore
for (const setting of ['gradio', 'auto']) testRequests(setting, [
  ['the stream of a queue', get('/gradio_api/queue/data?session_hash=abc123xyz'), 'gradio abc123xyz'],
  ['a heartbeat', get('/gradio_api/heartbeat/abc123xyz'), 'gradio abc123xyz'],
  ['the body of a call to the queue', postJson('/queue/join?', HASH), 'gradio abc123xyz'],
  ['the body of a call behind a prefix', postJson('/app/gradio_api/run/predict', HASH), 'gradio abc123xyz'],
  ['the result of a call', get(`/gradio_api/call/predict/${EVENT}`), `gradio-call ${EVENT}`],
  ['the result of a call of version 2', get(`/call/v2/predict/${EVENT}`), `gradio-call ${EVENT}`],
  ['none: a new call', postJson('/gradio_api/call/predict', '{"data":[]}'), 'none'],
  ['none: the body of another request', postJson('/api/predict', HASH), 'none'],
  ['none: the body of a PUT', { ...postJson('/queue/join', HASH), method: 'PUT' }, 'none'],
  ['none: a short result', get('/call/predict/abc'), 'none'],
  ['none: more path behind it', get(`/call/predict/${EVENT}/x`), 'none'],
  ['none: malformed JSON', postJson('/queue/join', HASH.slice(0, -3)), 'none'],
  ['none: an object in its place', postJson('/queue/join', '{"session_hash":{}}'), 'none'],
]);
testRequests('gradio', [['a heartbeat before 5', get('/heartbeat/abc123xyz'), 'gradio abc123xyz']]);
testRequests('auto', [['none: any other heartbeat', get('/heartbeat/abc123xyz'), 'none']]);
// prettier-ignore
for (const setting of ['gradio', 'auto']) testResponses(setting, [
  ['an event', post('/gradio_api/call/predict'), JSON_OK, JSON.stringify({ event_id: EVENT }), [`gradio-call ${EVENT}`]],
  ['an event of version 2', post('/call/v2/predict/?a'), JSON_OK, JSON.stringify({ event_id: EVENT }), [`gradio-call ${EVENT}`]],
  ['nothing from the queue', post('/gradio_api/queue/join'), JSON_OK, JSON.stringify({ event_id: EVENT }), []],
  ['nothing from a GET', get('/call/predict'), JSON_OK, JSON.stringify({ event_id: EVENT }), []],
  ['nothing from an error', post('/call/predict'), jsonWith(422), JSON.stringify({ event_id: EVENT }), []],
  ['no id that no request could carry', post('/call/predict'), JSON_OK, JSON.stringify({ event_id: 5 }), []],
]);

// prettier-ignore
for (const setting of ['responses', 'auto']) testRequests(setting, [
  ['a response', get('/v1/responses/resp_abc'), 'responses resp_abc'],
  ['a part of it', post('/v1/responses/resp_abc/cancel'), 'responses resp_abc'],
  ['the response before', postJson('/v1/responses', '{"model":"m","previous_response_id":"resp_abc"}'), 'responses resp_abc'],
  ['none: a first response', postJson('/v1/responses', '{"model":"m"}'), 'none'],
  ['none: an empty one', postJson('/v1/responses', '{"previous_response_id":null}'), 'none'],
  ['none: another id', get('/v1/responses/abc'), 'none'],
  ['none: a body elsewhere', postJson('/v1/completions', '{"previous_response_id":"resp_abc"}'), 'none'],
]);
const RESPONSE = { id: 'resp_new', object: 'response' };
const STREAM = responseWith(200, 'content-type', 'text/event-stream');
const EVENTS = `event: response.created\ndata: ${JSON.stringify({ response: RESPONSE })}\n\ndata: [DONE]\n\n`;
// prettier-ignore
for (const setting of ['responses', 'auto']) testResponses(setting, [
  ['the JSON', post('/v1/responses'), JSON_OK, JSON.stringify(RESPONSE), ['responses resp_new']],
  ['the JSON, longer than 16 KB', post('/v1/responses'), JSON_OK, JSON.stringify({ ...RESPONSE, text: 'x'.repeat(20_000) }), ['responses resp_new']],
  ['the JSON behind another response', postJson('/v1/responses', '{"previous_response_id":"resp_old"}'), JSON_OK, JSON.stringify(RESPONSE), ['responses resp_new']],
  ['the first event', post('/v1/responses'), STREAM, EVENTS, ['responses resp_new']],
  ['the first event behind a comment', post('/v1/responses'), STREAM, `: hi\r\n\r\n${EVENTS.replaceAll('\n', '\r\n')}`, ['responses resp_new']],
  ['nothing beyond 16 KB of events', post('/v1/responses'), STREAM, `data: ${'x'.repeat(16_384)}\n\n${EVENTS}`, []],
  ['nothing with another prefix', post('/v1/responses'), JSON_OK, JSON.stringify({ id: 'survey_1' }), []],
  ['nothing from a GET', get('/v1/responses'), JSON_OK, JSON.stringify(RESPONSE), []],
  ['nothing from a part of a response', post('/v1/responses/resp_old/cancel'), JSON_OK, JSON.stringify(RESPONSE), []],
]);

// prettier-ignore
testRequests('kv-cache', [
  ['its key', postJson('/v1/chat/completions', '{"user":"u","prompt_cache_key":"k"}'), 'kv-cache k'],
  ['its user', postJson('/v1/chat/completions', '{"user":"u"}'), 'kv-cache u'],
  ['none: an object in its place', postJson('/v1/messages', '{"user":{"name":"u"}}'), 'none'],
  ['none: a PUT', { ...postJson('/v1/x', '{"user":"u"}'), method: 'PUT' }, 'none'],
]);
testRequests('auto', [['none: a user in JSON', postJson('/v1/chat', '{"user":"u"}'), 'none']]);

const JSON_TYPE = ['content-type', 'application/json'];
// prettier-ignore
const READ_BODIES = [
  ['auto', 'a call to the queue', post('/queue/join', ...JSON_TYPE), true],
  ['auto', 'JSON with a suffix', post('/queue/join', 'Content-Type', 'application/vnd.a+JSON; charset=utf-8'), true],
  ['auto', 'not a form', post('/queue/join', 'content-type', 'application/x-www-form-urlencoded'), false],
  ['auto', 'not without a type', post('/queue/join'), false],
  ['auto', 'not with an id in the query', post('/queue/join?session_hash=a', ...JSON_TYPE), false],
  ['auto', 'a new response', post('/v1/responses?a', ...JSON_TYPE), true],
  ['auto', 'not a part of a response', post('/v1/responses/resp_a/cancel', ...JSON_TYPE), false],
  ['auto', 'not any other JSON', post('/api/users', ...JSON_TYPE), false],
  ['auto', 'not a PUT', head('PUT', '/queue/join', ...JSON_TYPE), false],
  ['kv-cache', 'each POST of JSON', post('/any', ...JSON_TYPE), true],
  ['body:/a', 'each request of JSON', head('PUT', '/any', ...JSON_TYPE), true],
  ['mcp,rpc', 'none', post('/queue/join', ...JSON_TYPE), false],
] as const;
for (const [setting, claim, request, expected] of READ_BODIES) {
  test(`${setting}: a body that is read before routing: ${claim}`, () => {
    const protocols = protocolsOf(setting);
    const readIds = createRequestIdReader(protocols, { hints: true });
    assert.equal(createBodyCheck(protocols, readIds)(request), expected);
  });
}
