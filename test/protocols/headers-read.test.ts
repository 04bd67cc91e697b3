/** Only these fields of a request are available to routing, so none that is read may be missing. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createAffinityCookie } from '../../src/protocols/affinity-cookie.ts';
import { createRequestIdReader } from '../../src/protocols/request-ids.ts';
import { createOwnerHintRemover } from '../../src/protocols/owner-hint.ts';
import { createDiscoverer, headersReadFromRequests } from '../../src/protocols/discoveries.ts';
import { isHeader, type RequestHead } from '../../src/protocols/heads.ts';
import { systemClock } from '../../src/clock.ts';
import { EDGE_NAMES, readEdgeFields } from '../../src/routing/facts.ts';
import { responseWith, machine, protocolsOf } from './heads.ts';

const SELF = machine('aa');
const PROTOCOLS = protocolsOf(
  'mcp,mcp-sse,rpc,socket.io,signalr,header:X-Room,query:room,cookie:sid,path:^/rooms/([^/]+)',
);

/** As if every field were read, at each access. */
function watched(rawHeaders: readonly string[]): { names: Set<string>; rawHeaders: string[] } {
  const names = new Set<string>();
  const proxy = new Proxy([...rawHeaders], {
    get(target, key): unknown {
      // A name may be checked in passing; a value only if it is the requested name.
      if (typeof key === 'string' && /^\d*[13579]$/.test(key)) {
        names.add((target[Number(key) - 1] ?? '').toLowerCase());
      }
      return Reflect.get(target, key);
    },
  });
  return { names, rawHeaders: proxy };
}

const VALUES: Readonly<Record<string, string>> = {
  accept: 'text/event-stream',
  cookie: 'sid=abc~bb; lb=aa.zzz; other=1',
  'mcp-protocol-version': '2026-07-28',
  'mcp-method': 'tools/get',
};
const ALL = [
  ...[
    'Host',
    'a',
    'User-Agent',
    'b',
    'Accept-Language',
    'c',
    'Authorization',
    'd',
    'Content-Type',
    'e',
  ],
  ...['X-Forwarded-For', 'f', 'Origin', 'g', 'Referer', 'h', 'Content-Length', '0', 'Via', 'i'],
];

/** Everything that reads a request's fields before it is forwarded. */
function read(head: RequestHead): unknown {
  const ids = createRequestIdReader(PROTOCOLS, { hints: true })(head);
  const clock = systemClock;
  const discoverer = createDiscoverer(PROTOCOLS, {
    hints: true,
    self: SELF,
    clock,
    createId: () => 'token',
  });
  const options = {
    name: 'lb',
    isCrossSite: false,
    isPartitioned: false,
    self: SELF,
    ttlMs: 1_000,
    clock: { now: () => 0 },
  };
  const cookie = createAffinityCookie(options);
  return {
    ids,
    edge: readEdgeFields(head.rawHeaders),
    mayReveal: discoverer.mayRevealInBody(head, ids),
    discoveries: discoverer.inspectHead(head, ids, responseWith(200, 'Mcp-Session-Id', 'abc')),
    named: cookie.read(head),
    added: cookie.addTo(responseWith(200), head),
    taken: cookie.expire(head),
  };
}

describe('the fields of a request that are read', () => {
  const names = [...headersReadFromRequests(PROTOCOLS), ...EDGE_NAMES];
  const fields = names.flatMap((name) => [name.toUpperCase(), VALUES[name] ?? 'x~bb']);
  const targets = ['/', '/?room=1', '/rooms/1', '/socket.io/?sid=1'];
  const methods = ['GET', 'POST', 'DELETE', 'OPTIONS'];
  for (const method of methods) {
    for (const target of targets) {
      test(`are those that are listed: ${method} ${target}`, () => {
        const { names: seen, rawHeaders } = watched([...ALL, ...fields]);
        read({ method, target, rawHeaders });
        const others = [...seen].filter((name) => !names.includes(name));
        assert.deepEqual(others, []);
      });

      test(`are sufficient: ${method} ${target}`, () => {
        for (let left = 0; left < names.length; left += 1) {
          const some = fields.filter((_, i) => i >> 1 !== left);
          const selected = some.filter((_, i) => names.some((n) => isHeader(some[i - (i % 2)], n)));
          const whole = read({ method, target, rawHeaders: [...ALL, ...some] });
          const ofSelected = { method, target, rawHeaders: selected };
          assert.deepEqual(read(ofSelected), whole);
          const clean = createOwnerHintRemover(PROTOCOLS, { hints: true });
          const kept = clean({ method, target, rawHeaders: [...ALL, ...some] }).rawHeaders;
          assert.deepEqual(clean(ofSelected).rawHeaders, kept.slice(ALL.length));
        }
      });
    }
  }
});
