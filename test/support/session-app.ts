/** An app with one session, which it opens for any client. */
import type { TestContext } from 'node:test';
import { serveApp } from './sidecar.ts';

/** The session as a client of the Machine `m1` knows it. */
export const SESSION = { 'mcp-session-id': 'abc~m1' };

/** Creates `abc` at `/open`, and responds at `/stream` with the beginning of a stream. */
export function serveSessionApp(t: TestContext): Promise<number> {
  return serveApp(t, (req, res) => {
    if (req.url === '/open') res.setHeader('mcp-session-id', 'abc');
    if (req.url === '/stream') res.write('first');
    else res.end('from the app');
  });
}
