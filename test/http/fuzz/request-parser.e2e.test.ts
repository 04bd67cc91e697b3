/** If the engine accepts input of a client, Node's parser frames it identically. Rejections are not compared. */
import { test } from 'node:test';
import { runCampaign, type Finding } from './campaign.ts';
import type { Chance } from './chance.ts';
import { mutate } from './mutation.ts';
import { NodeServer } from './node-server.ts';
import { cutsOf } from './pieces.ts';
import { findOtherForward, findOtherReading } from './request-comparison.ts';
import { readRequests, type RequestsRead } from './request-reader.ts';
import { requestText } from './request-text.ts';

test('accepted requests are framed, split and forwarded as Node reads them', async (t) => {
  const server = new NodeServer();
  let accepted = 0;
  let complete = 0;
  await runCampaign(t, {
    share: 0.5,
    generate: (chance) => mutate(requestText(chance), chance),
    check: (input, chance) => {
      const bytes = Buffer.from(input, 'latin1');
      const read = readRequests([bytes]);
      accepted += read.requests.length;
      complete += read.requests.filter(({ isComplete }) => isComplete).length;
      return (
        findOtherCut(bytes, read, chance) ??
        (read.ending === 'broken body'
          ? undefined
          : findOtherReading(server, bytes, read.requests)) ??
        findOtherForward(server, read.requests, chance)
      );
    },
  });
  t.diagnostic(`${accepted} requests accepted, ${complete} of them complete`);
});

/** The same bytes in other packets must be the same requests. */
function findOtherCut(bytes: Buffer, whole: RequestsRead, chance: Chance): Finding {
  const expected = JSON.stringify(whole);
  for (const pieces of cutsOf(bytes, chance)) {
    const read = JSON.stringify(readRequests(pieces));
    if (read !== expected) {
      const lengths = pieces.map(({ length }) => length).join();
      return `in packets of ${lengths} bytes: ${read}, in one: ${expected}`;
    }
  }
  return undefined;
}
