/** Bodies that wait, as an id may be in them: a crowd of slow ones keeps no other client's id from being read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../fleet/support.ts';
import { openFleet } from '../support/fleet.ts';
import { idPlacedOn } from '../support/ids.ts';
import { openClient, type RawClient } from '../support/raw.ts';
import { serveApp } from '../support/sidecar.ts';

/** Eight of the longest bodies have room to wait in half of it. */
const SETTINGS = { SESSION_PROTOCOLS: 'body:/id', MAX_BUFFERED_BYTES: '1048576' };
const LONGEST = 65_536;

const headOf = (bytes: number): string =>
  `POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ${bytes}\r\n\r\n`;

test('of more bodies than there is room for, the one that has waited longest waits no more', async (t) => {
  let begun = 0;
  const app = await serveApp(t, (req, res) => {
    begun += 1;
    req.resume().on('end', () => res.end('ok'));
  });
  const fleet = await openFleet(t, 'm1', 'm2');
  const { sidecar } = await fleet.start('m1', app, SETTINGS);
  await fleet.start('m2', app, SETTINGS);
  await until(() => sidecar.readiness().fleet.silent === 0);

  const crowd: RawClient[] = [];
  for (let count = 1; count <= 12; count += 1) {
    const client = await openClient(t, sidecar.ports.public);
    client.send(headOf(LONGEST));
    crowd.push(client);
  }
  await until(() => begun === 4);
  const client = await openClient(t, sidecar.ports.public);
  const body = JSON.stringify({ id: idPlacedOn('m2', ['m1', 'm2']) });
  client.send(headOf(body.length) + body.slice(0, -1));
  await until(() => begun === 5);
  client.send(body.slice(-1));
  const isOver = (text: string): boolean => text.endsWith('\r\n\r\n') || text.endsWith('ok');
  assert.match(await client.until(isOver), /\r\nfly-replay: instance=m2;/i);

  for (const slow of crowd) slow.send(' '.repeat(LONGEST));
  for (const slow of crowd)
    assert.match(await slow.until((text) => text.endsWith('ok')), /^HTTP\/1\.1 200 /);
});
