/** What both clients of Jupyter need. */
import assert from 'node:assert/strict';
import { KernelMessage, ServerConnection, type Kernel } from '@jupyterlab/services';
import { WebSocket } from 'ws';
import { Counted } from '../../support/mcp-client.ts';
import { retryingFetch } from '../../support/retrying-fetch.ts';

export type Settings = ServerConnection.ISettings;

/** With the cookies of a browser, if there is one. */
export function createJupyterSettings(
  baseUrl: string,
  cookies: ReadonlyMap<string, string> = new Map(),
): Settings {
  const cookieHeader = (): string => [...cookies].map((pair) => pair.join('=')).join('; ');
  class WebSocketWithCookies extends WebSocket {
    constructor(address: string, protocols: string[]) {
      super(address, protocols, { headers: { cookie: cookieHeader() } });
    }
  }
  return ServerConnection.makeSettings({
    baseUrl,
    WebSocket: WebSocketWithCookies as unknown as Settings['WebSocket'],
    fetch: async (input) => {
      // The body of a `Request` can be read only once.
      assert.ok(input instanceof Request);
      const headers = new Headers(input.headers);
      headers.set('cookie', cookieHeader());
      const body = input.body ? await input.text() : null;
      return retryingFetch(input.url, { method: input.method, headers, body });
    },
  });
}

export async function executeOn(connection: Kernel.IKernelConnection): Promise<Counted> {
  const future = connection.requestExecute({ code: 'count' });
  let result: unknown;
  future.onIOPub = (message) => {
    if (KernelMessage.isExecuteResultMsg(message)) {
      result = message.content.data['application/json'];
    }
  };
  await future.done;
  return Counted.parse(result);
}
