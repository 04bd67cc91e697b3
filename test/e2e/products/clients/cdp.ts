/** `chrome-remote-interface`, with a new WebSocket for each command. */
import CDP from 'chrome-remote-interface';
import { z } from 'zod';
import { Counted } from '../../support/mcp-client.ts';
import type { Target } from '../../support/target.ts';
import {
  callAround,
  createProductSession,
  retryUnavailable,
  type ProductSession,
} from './product-session.ts';

const DebuggerTarget = z.object({ webSocketDebuggerUrl: z.string(), here: Counted });

export async function runCdp(target: Target, midway: () => Promise<void>): Promise<void> {
  const { hostname, port } = new URL(target.url);
  const options = { host: hostname, port: Number(port) };
  const browser = await retryUnavailable(isUnavailable, () => CDP.Version(options));
  const created = await retryUnavailable(isUnavailable, () => CDP.New(options));
  const [listed] = await retryUnavailable(isUnavailable, () => CDP.List(options));
  const sessions = [
    openCdpSession('browser', browser),
    openCdpSession('new page', created),
    openCdpSession('listed page', listed),
  ];
  await callAround(sessions, midway);
}

function openCdpSession(name: string, revealed: unknown): ProductSession {
  const { webSocketDebuggerUrl, here } = DebuggerTarget.parse(revealed);
  return createProductSession(name, here, () =>
    retryUnavailable(isUnavailable, () => callOnce(webSocketDebuggerUrl)),
  );
}

async function callOnce(webSocketDebuggerUrl: string): Promise<Counted> {
  const client = await CDP({ target: webSocketDebuggerUrl, local: true });
  try {
    const result: unknown = await client.send('Browser.getVersion');
    return Counted.parse(result);
  } finally {
    await client.close();
  }
}

/** The client's error is the text of the response, or, for a WebSocket, the one of `ws`. */
function isUnavailable(error: unknown): boolean {
  return (
    error instanceof Error && /"status":503|Unexpected server response: 503/.test(error.message)
  );
}
