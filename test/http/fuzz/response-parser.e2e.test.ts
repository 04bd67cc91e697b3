/** If the engine accepts input of an app, Node's parser frames it identically. Rejections are not compared. */
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { bodyForNode, fieldsOf } from './as-node-takes.ts';
import { runCampaign, type Finding } from './campaign.ts';
import type { Chance } from './chance.ts';
import { mutate } from './mutation.ts';
import { NodeClient } from './node-client.ts';
import { cutsOf } from './pieces.ts';
import { isSame } from './request-comparison.ts';
import { readResponse, type ResponseRead } from './response-reader.ts';
import { responseText } from './response-text.ts';

test('accepted responses are framed as Node reads them', async (t) => {
  const clients = new ReadyClients();
  t.after(() => clients.close());
  const endings = new Map<string, number>();
  await runCampaign(t, {
    share: 0.35,
    generate: (chance) => mutate(responseText(chance), chance),
    check: async (input, chance) => {
      const method = chance.happens(0.15) ? 'HEAD' : 'GET';
      const bytes = Buffer.from(input, 'latin1');
      const read = readResponse([bytes], method);
      const ending = `${read.ending} ${read.framing}`;
      endings.set(ending, (endings.get(ending) ?? 0) + 1);
      const finding = findOtherCut(bytes, read, method, chance);
      if (finding !== undefined || !read.head || read.ending === 'broken body') return finding;
      const client = await clients.take(method);
      const other = findOtherReading(client, bytes, read);
      client.close();
      return other;
    },
  });
  t.diagnostic(JSON.stringify(Object.fromEntries(endings)));
});

function findOtherCut(bytes: Buffer, whole: ResponseRead, method: string, chance: Chance): Finding {
  const expected = JSON.stringify(whole);
  for (const pieces of cutsOf(bytes, chance)) {
    const read = JSON.stringify(readResponse(pieces, method));
    if (read !== expected) {
      const lengths = pieces.map(({ length }) => length).join();
      return `in other packets: ${lengths} bytes: ${read}, in one: ${expected}`;
    }
  }
  return undefined;
}

/** For Node's client the response must be complete at the same byte as here. */
function findOtherReading(client: NodeClient, bytes: Buffer, read: ResponseRead): Finding {
  const { seen } = client;
  const finding = feed(client, bytes, read) ?? differenceOf(read, seen);
  if (finding === undefined) return undefined;
  return `${finding}: here ${JSON.stringify(read)}, Node ${JSON.stringify(seen)}`;
}

function feed(client: NodeClient, bytes: Buffer, read: ResponseRead): Finding {
  const isComplete = (): boolean => client.seen.isComplete;
  const head = headsForNode(read);
  const asSent = bytes.toString('latin1', read.headEnd, read.end);
  const body = read.ending === 'complete' ? bodyForNode(asSent, read.passed) : asSent;
  const message = Buffer.from(head + body, 'latin1');
  const last = read.ending === 'open' ? message.length : message.length - 1;
  client.feed(message.subarray(0, last));
  if (isComplete()) return 'it ends earlier for Node';
  if (read.ending === 'open') {
    client.end();
    const endsByClose = read.framing === 'until-close';
    return isComplete() === endsByClose ? undefined : 'another end for Node';
  }
  client.feed(message.subarray(last));
  if (read.ending === 'complete') return isComplete() ? undefined : 'it is not complete for Node';
  return client.seen.switchedRest === '' ? undefined : 'no switch for Node';
}

/**
 * The engine removes a space before a colon, as RFC 9112 §5.1 requires, and ignores `Connection` and the
 * version of an interim response. llhttp rejects the first and acts on the others.
 */
function headsForNode({ interim, head }: ResponseRead): string {
  const early = interim.map(({ text }) =>
    text.replace('HTTP/1.0', 'HTTP/1.1').replaceAll(/^connection(?=[ \t]*:)/gim, 'X-$&'),
  );
  return `${early.join('')}${head?.text ?? ''}`.replaceAll(/^([^\s:]+)[ \t]+:/gm, '$1:');
}

function differenceOf(read: ResponseRead, seen: SeenOf<NodeClient>): Finding {
  const { head, interim, body } = read;
  if (!head) return undefined;
  if (interim.map(({ statusCode }) => statusCode).join() !== seen.interim.join())
    return 'other interim';
  if (seen.statusCode !== head.statusCode) return 'another status';
  if (seen.version !== `1.${head.minorVersion}`) return 'another version';
  if (!isSame(fieldsOf(head.text), seen.rawHeaders)) return 'other fields';
  return seen.body === body ? undefined : 'another body';
}

type SeenOf<Client extends { readonly seen: unknown }> = Client['seen'];

/** Opens many clients ahead. */
class ReadyClients {
  readonly #ready = new Map<string, NodeClient[]>();

  async take(method: string): Promise<NodeClient> {
    const ready = this.#ready.get(method) ?? [];
    const client = ready.pop();
    if (client) return client;
    this.#ready.set(
      method,
      Array.from({ length: READY }, () => new NodeClient(method)),
    );
    await nextTurn();
    return this.take(method);
  }

  close(): void {
    for (const client of [...this.#ready.values()].flat()) client.close();
  }
}

const READY = 50;
