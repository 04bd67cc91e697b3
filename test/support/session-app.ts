/** An app with one session, which it opens for whoever asks. */
import type { TestContext } from 'node:test';
import { serveApp } from './sidecar.ts';

/** The session as a client of the Machine `m1` knows it. */
export const SESSION = { 'mcp-session-id': 'abc~m1' };

/** Mints `abc` at `/open`, and answers at `/stream` with the begin of a stream. */
export function serveSessionApp(t: TestContext): Promise<number> {
  return serveApp(t, (req, res) => {
    if (req.url === '/open') res.setHeader('mcp-session-id', 'abc');
    if (req.url === '/stream') res.write('first');
    else res.end('from the app');
  });
}
