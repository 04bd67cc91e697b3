/** Any text of `SESSION_PROTOCOLS` gives protocols that work, or mistakes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createDiscoverer } from '../../src/protocols/discoveries.ts';
import { createPathMask } from '../../src/protocols/id-locations.ts';
import { createOwnerHintRemover } from '../../src/protocols/owner-hint.ts';
import { PRESETS } from '../../src/protocols/presets.ts';
import type { Protocol } from '../../src/protocols/protocol.ts';
import { createBodyCheck, createRequestIdReader } from '../../src/protocols/request-ids.ts';
import { listedNames, parseProtocols } from '../../src/protocols/setting.ts';
import { createTestClock } from '../support/clock.ts';
import { jsonWith, machine, postJson, protocolsOf, responseWith } from './heads.ts';

const anyFragment = fc.constantFrom(
  ...['auto', ...Object.keys(PRESETS)],
  ...[
    'cookie:',
    'header:',
    'query:',
    'path:',
    'body:',
    'path:^/a/([^/]+)',
    'body:/a/b',
    'query:id',
  ],
  ...['from', 'json:/a', 'location', 'response-header:X', 'set-cookie:a', 'endpoint'],
  ...['soft', 'by:app', 'by:client', 'by:either', 'ends:delete', 'ends:expiry', 'unknown:mcp'],
  ...[
    ',',
    ',',
    ' ',
    ' ',
    '  ',
    '\t',
    '\n',
    '(',
    ')',
    '[',
    ']',
    '{',
    '}',
    '\\',
    '^',
    '$',
    '/',
    '~',
    '.',
  ],
  ...[
    'a',
    '*',
    '+',
    '?',
    '|',
    '1',
    '%',
    '=',
    '&',
    '#',
    '"',
    '\u00e9',
    '\u{1f600}',
    '\0',
    '__proto__',
  ],
);
const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.array(anyFragment, { maxLength: 12 }).map((fragments) => fragments.join('')),
  fc.array(anyFragment, { maxLength: 8 }).map((fragments) => fragments.join(' ')),
);

/** What a sidecar does with its protocols at its start, and with one request and its response. */
function use(protocols: readonly Protocol[]): void {
  const readIds = createRequestIdReader(protocols, { hints: true });
  const options = { hints: true, self: machine('m1'), clock: createTestClock() };
  const discoverer = createDiscoverer(protocols, { ...options, createId: () => 'token' });
  const head = postJson('/a/b/c?id=d~m1&a=e#f', '{"a":{"b":1}}');
  const ids = readIds(head);
  createBodyCheck(protocols, readIds)(head);
  createPathMask(protocols)('/a/b/c', head);
  createOwnerHintRemover(protocols, { hints: true })(head);
  const { inspector } = discoverer.inspectHead(head, ids, jsonWith(200, 'location', 'x?id=y'));
  inspector?.push(Buffer.from('{"a":1}'));
  inspector?.end();
  discoverer.inspectHead(head, ids, responseWith(302, 'set-cookie', 'a=b', 'location', '//h/a/b'));
  listedNames(protocols);
}

test('no text makes the parser throw, and what it accepts can be used', () => {
  let accepted = 0;
  fc.assert(
    fc.property(anyText, (text) => {
      const { protocols, mistakes } = parseProtocols(text);
      assert.equal(protocols === undefined, (mistakes?.length ?? 0) > 0);
      if (!protocols) return;
      accepted += 1;
      assert.ok(protocols.length > 0);
      use(protocols);
    }),
    { numRuns: 5_000 },
  );
  assert.ok(accepted > 0);
});

const WORDS = ['soft', 'by:client', 'ends:delete', 'unknown:webdriver'];

test('words change what stands before them, in any order, and nothing else', () => {
  const anyWords = fc.shuffledSubarray(WORDS, { minLength: 1 });
  const anyEntry = fc.constantFrom(
    ...Object.keys(PRESETS),
    'query:x',
    'path:^/x/([^/]+) from location',
  );
  fc.assert(
    fc.property(anyEntry, anyWords, fc.constantFrom(' ', '\t ', '\n'), (entry, words, space) => {
      const plain = protocolsOf(entry);
      const [other, ...changed] = protocolsOf(`header:y,${[entry, ...words].join(space)}`);
      assert.deepEqual(other, protocolsOf('header:y')[0]);
      const changes = {
        ...(words.includes('soft') && { isSoft: true }),
        ...(words.includes('by:client') && { mintedBy: 'client' }),
        ...(words.includes('ends:delete') && { endsBy: 'delete' }),
        ...(words.includes('unknown:webdriver') && { errorForm: 'webdriver' }),
      };
      assert.deepEqual(
        changed,
        plain.map((protocol) => ({ ...protocol, ...changes })),
      );
    }),
  );
});

test('the start of a sidecar names the protocols as a person lists them', () => {
  const names = (text: string): readonly string[] => listedNames(protocolsOf(text));
  assert.deepEqual(names('auto'), ['auto']);
  assert.deepEqual(names('auto,yjs,query:a'), ['auto', 'yjs', 'query:a']);
  assert.deepEqual(names('mcp,rpc'), ['mcp', 'mcp-tasks', 'rpc']);
  assert.deepEqual(names('gradio'), ['gradio', 'gradio-call']);
});
