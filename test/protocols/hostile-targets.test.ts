/** The longest targets and bodies that a client may send, made of what patterns look for: none is slow. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createDiscoverer } from '../../src/protocols/discoveries.ts';
import { createPathMask, pathOf } from '../../src/protocols/id-locations.ts';
import { readJsonId } from '../../src/protocols/json-id.ts';
import { createOwnerHintRemover } from '../../src/protocols/owner-hint.ts';
import { PRESETS } from '../../src/protocols/presets.ts';
import { createBodyCheck, createRequestIdReader } from '../../src/protocols/request-ids.ts';
import { createTestClock } from '../support/clock.ts';
import { cpuMsOf } from '../support/cpu.ts';
import { head, jsonWith, machine, protocolsOf } from './heads.ts';

const TARGET_BYTES = 32_000;
const BODY_BYTES = 65_536;
/** Linear work takes a few ms; the square of these sizes, many seconds. */
const MAX_CPU_MS = 1_000;

const repeated = (text: string, bytes: number): string =>
  text.repeat(Math.ceil(bytes / text.length)).slice(0, bytes);

// prettier-ignore
const PIECES = [
  '/', '/a', '%61', '%', 'a', '-', ';jsessionid=', '/123/abcdefgh/', '/api/kernels/', '/api/sessions/0-',
  '/session/', `/session/${'a'.repeat(64)}/`, '/devtools/page/', '/json/', '/json/close/', '/call/', '/call/v2/',
  '/responses/resp_', '/gradio_api/heartbeat/', '/matchmake/joinById/', '/negotiate', '&id=', '&EIO=4&sid=',
];

/** What a sidecar does with a request and its response. */
function createServing(setting: string): (target: string, method: string) => void {
  const protocols = protocolsOf(setting);
  const readIds = createRequestIdReader(protocols, { hints: true });
  const mayHaveIdInBody = createBodyCheck(protocols, readIds);
  const options = { hints: true, self: machine('m1'), clock: createTestClock() };
  const discoverer = createDiscoverer(protocols, { ...options, createId: () => 'token' });
  const maskPath = createPathMask(protocols);
  const removeHints = createOwnerHintRemover(protocols, { hints: true });
  return (target, method) => {
    const fields = ['tus-resumable', '1.0.0', 'content-type', 'application/json', 'cookie', 'a=b'];
    const request = { ...head(method, target, ...fields), upgrade: 'websocket' };
    const ids = readIds(request);
    mayHaveIdInBody(request);
    discoverer.mayRevealInBody(request, ids);
    const locations = ['location', target, 'location', target.slice(1)];
    discoverer.inspectHead(request, ids, jsonWith(200, ...locations));
    maskPath(pathOf(target), request);
    removeHints(request);
  };
}

for (const setting of ['auto', ...Object.keys(PRESETS)]) {
  test(`${setting}: a target of 32 KB takes as long as its length`, () => {
    const serve = createServing(setting);
    for (const piece of PIECES) {
      const text = repeated(piece, TARGET_BYTES);
      for (const target of [`/${text}`, `/x?${text}`, `${piece}${repeated('/', TARGET_BYTES)}`])
        for (const method of ['POST', 'DELETE']) {
          const ms = cpuMsOf(() => serve(target, method));
          assert.ok(ms < MAX_CPU_MS, `${method} ${target.slice(0, 40)}: ${ms} ms`);
        }
    }
  });
}

test('a body of 64 KB takes as long as its length', () => {
  for (const start of ['{', '[', '{"a":', '{"a":{', '["', '{"', ' '])
    for (const piece of [
      '"',
      '{',
      '[',
      ' ',
      '\\',
      '{"a":',
      '"a":1,',
      '{},',
      '1',
      '",',
      '\\u0061',
      '\xff',
    ]) {
      const body = start + repeated(piece, BODY_BYTES);
      const ms = cpuMsOf(() => readJsonId(body, ['session_hash', 'id']));
      assert.ok(ms < MAX_CPU_MS, `${start} ${piece}: ${ms} ms`);
    }
});
