/** Copies of bytes for sockets that write them later, into memory that is used again. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, connect, type AddressInfo, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { Copies } from '../../src/http/socket.ts';

const PART_BYTES = 60_000;

interface Pair {
  readonly writer: Socket;
  readonly reader: Socket;
}

async function connectPair(t: TestContext): Promise<Pair> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const reader = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const [writer] = (await once(server, 'connection')) as [Socket];
  for (const socket of [reader, writer]) socket.on('error', () => undefined);
  t.after(() => {
    reader.destroy();
    writer.destroy();
    server.close();
  });
  return { writer, reader };
}

/** Writes until that many parts wait in the socket; part `i` is full of its number. Returns their count. */
function fill(copies: Copies, writer: Socket, bytes: Buffer, waiting: number): number {
  let count = 0;
  while (writer.writableLength < waiting * PART_BYTES) {
    bytes.fill(count % 256);
    copies.write(writer, bytes);
    count += 1;
  }
  return count;
}

async function readAll(reader: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of reader) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function assertParts(received: Buffer, count: number): void {
  assert.equal(received.length, count * PART_BYTES);
  for (let i = 0; i < count; i += 1) {
    const part = received.subarray(i * PART_BYTES, (i + 1) * PART_BYTES);
    assert.ok(part.equals(Buffer.alloc(PART_BYTES, i % 256)), `part ${i} is whole`);
  }
}

for (const waiting of [1, 16, 60]) {
  test(`what was in the bytes at the call arrives, with ${waiting} parts that wait`, async (t) => {
    const { writer, reader } = await connectPair(t);
    reader.pause();
    const count = fill(new Copies(), writer, Buffer.alloc(PART_BYTES), waiting);
    writer.end();
    assertParts(await readAll(reader), count);
  });
}

test('memory is used again once its bytes are written, by another socket too', async (t) => {
  const copies = new Copies();
  const bytes = Buffer.alloc(PART_BYTES);
  const memories = new Set<ArrayBufferLike>();
  for (let round = 0; round < 40; round += 1) {
    const { writer, reader } = await connectPair(t);
    const write = writer.write.bind(writer);
    writer.write = ((chunk: Buffer, done: () => void) => {
      memories.add(chunk.buffer);
      return write(chunk, done);
    }) as typeof writer.write;
    bytes.fill(round);
    copies.write(writer, bytes);
    writer.end();
    const received = await readAll(reader);
    assert.ok(received.equals(Buffer.alloc(PART_BYTES, round)));
  }
  assert.equal(memories.size, 1);
});

test('a socket that is destroyed gives its memory back', async (t) => {
  const copies = new Copies();
  const bytes = Buffer.alloc(PART_BYTES);
  for (let round = 0; round < 3; round += 1) {
    const { writer, reader } = await connectPair(t);
    reader.pause();
    // All sixteen, and some that get memory of their own.
    fill(copies, writer, bytes, 20);
    writer.destroy();
    await once(writer, 'close');
  }
  const { writer, reader } = await connectPair(t);
  const memories = new Set<ArrayBufferLike>();
  const write = writer.write.bind(writer);
  writer.write = ((chunk: Buffer, done?: () => void) => {
    if (done) memories.add(chunk.buffer);
    return write(chunk, done);
  }) as typeof writer.write;
  reader.pause();
  const count = fill(copies, writer, bytes, 20);
  assert.equal(memories.size, 16);
  writer.end();
  assertParts(await readAll(reader), count);
});

test('a part longer than the memory is copied whole', async (t) => {
  const { writer, reader } = await connectPair(t);
  const bytes = Buffer.alloc(65_537, 7);
  new Copies().write(writer, bytes);
  bytes.fill(8);
  writer.end();
  assert.ok((await readAll(reader)).equals(Buffer.alloc(65_537, 7)));
});
