/** Fly's Machines API on a Unix socket, as a Machine has it for itself. */
import { createServer, type RequestListener } from 'node:http';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** Resolves to the path of the socket. */
export async function serveMachinesApi(t: TestContext, respond: RequestListener): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'fly-api-'));
  const path = join(directory, 'api');
  const server = createServer(respond);
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.after(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await rm(directory, { recursive: true });
  });
  return path;
}
