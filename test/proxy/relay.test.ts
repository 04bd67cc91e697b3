/** An answer that teaches by its body, on its way to the client: nothing of it goes out unbound. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createWholeBodyTap, type BodyTap } from '../../src/affinity/body-tap.ts';
import { HeadFlusher } from '../../src/proxy/head-flusher.ts';
import { Relay, type RelayOwner } from '../../src/proxy/relay.ts';
import type { AnswerSource } from '../../src/proxy/upstream.ts';
import { protocolsOf } from '../affinity/heads.ts';
import { openRawClient, type RawClient } from '../support/raw.ts';
import { serve } from '../support/sidecar.ts';

const [SOCKET_IO] = protocolsOf('socket.io');

interface Relayed {
  readonly relay: Relay;
  readonly client: RawClient;
  /** What the relay has asked the app's side for, in order. */
  readonly asked: string[];
  /** Resolves when an id has been found; its binding is committed by `commit`. */
  readonly taught: Promise<string>;
  readonly commit: () => void;
  /** How it has ended for its owner, if it broke off. */
  readonly ended: string[];
}

/** A relay whose tap learns the first six letters of the body, all of which it holds, as an id. */
async function startRelay(t: TestContext, length: number | undefined): Promise<Relayed> {
  const arrived = Promise.withResolvers<ServerResponse>();
  const server = createServer((_req, res) => arrived.resolve(res));
  const client = await openRawClient(await serve(t, server));
  t.after(() => client.socket.destroy());
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  const res = await arrived.promise;

  const taught = Promise.withResolvers<string>();
  const committed = Promise.withResolvers<undefined>();
  const [asked, ended]: [string[], string[]] = [[], []];
  assert.ok(SOCKET_IO);
  const tap: BodyTap = createWholeBodyTap(SOCKET_IO, {
    begin: /./,
    read: (body) => body.slice(0, 6),
  });
  const owner: RelayOwner = {
    endsConnection: false,
    reveal: (_statusCode, rawHeaders) => ({ rawHeaders, tap }),
    onLesson: ({ id }) => {
      taught.resolve(id);
      return committed.promise;
    },
    onFlowing: () => undefined,
    passTrailers: (trailers) => trailers,
    onUpgraded: () => assert.fail('no upgrade was asked for'),
    onFailedBeforeHead: () => ended.push('failed before its head'),
    onCut: () => ended.push('cut'),
  };
  const source: AnswerSource = {
    pause: () => asked.push('pause'),
    resume: () => asked.push('resume'),
    abort: () => asked.push('abort'),
  };
  const relay = new Relay(res, owner, new HeadFlusher());
  relay.onSent(source);
  relay.onHead(200, length === undefined ? [] : ['Content-Length', String(length)]);
  return {
    relay,
    client,
    asked,
    taught: taught.promise,
    commit: () => committed.resolve(undefined),
    ended,
  };
}

const bodyOf = (received: string): string => received.split('\r\n\r\n').slice(1).join('\r\n\r\n');

describe('a body that teaches an id', () => {
  for (const length of [6, undefined]) {
    const kind = length === undefined ? 'without a length' : 'with a length';

    test(`goes out once its binding is committed, ${kind}`, async (t) => {
      const { relay, client, taught, commit } = await startRelay(t, length);
      relay.onData(Buffer.from('abc'));
      relay.onData(Buffer.from('def'));
      relay.onEnd([]);
      assert.equal(await taught, 'abcdef');
      for (let turn = 0; turn < 10; turn += 1) await nextTurn();
      assert.ok(!client.received().includes('abc'));
      commit();
      const received = await client.until((text) => text.includes('def'));
      assert.match(bodyOf(received), /^(?:6\r\n)?abcdef/);
    });

    test(`breaks off for the client as it does upstream, ${kind}`, async (t) => {
      const { relay, client, ended } = await startRelay(t, length);
      relay.onData(Buffer.from('abc'));
      relay.onError(new Error('the app has left'));
      const received = await client.untilClosed();
      assert.ok(!received.includes('abc'));
      assert.deepEqual(ended, ['cut']);
    });
  }

  test('that breaks off while its binding is committed breaks off for the client, though its head was on its way', async (t) => {
    const { relay, client, taught, commit, ended } = await startRelay(t, 20_000);
    relay.onData(Buffer.alloc(16_385, 'a'));
    assert.equal(await taught, 'aaaaaa');
    // The head would have gone out by now if it did not wait for the body.
    await nextTurn();
    relay.onError(new Error('the app has left'));
    assert.deepEqual(ended, ['cut']);
    commit();
    assert.ok(!(await client.untilClosed()).includes('aaa'));
  });

  test('asks for no more while it is committed, and goes on then', async (t) => {
    const { relay, client, asked, commit } = await startRelay(t, undefined);
    relay.onData(Buffer.from('abc'));
    assert.deepEqual(asked, [], 'what is held is bounded, so it may come');
    relay.onEnd([]);
    assert.deepEqual(asked, ['pause']);
    commit();
    await client.until((text) => text.endsWith('0\r\n\r\n'));
  });
});

test('a client that leaves while a binding is committed ends the answer', async (t) => {
  const { relay, client, asked, taught, commit } = await startRelay(t, undefined);
  relay.onData(Buffer.from('abc'));
  relay.onEnd([]);
  await taught;
  client.socket.destroy();
  await once(client.socket, 'close');
  relay.abort(new Error('the client left'));
  relay.onError(new Error('the client left'));
  commit();
  await nextTurn();
  assert.ok(asked.includes('abort'));
});
