/** Products whose sessions have a WebSocket or a stream. */
import { together, twice } from './halves.ts';
import { packageOf, SMALL_SERVER, versionOf, type Product } from './product.ts';

export const SOCKET_PRODUCTS: readonly Product[] = [
  {
    name: 'MCP',
    version: versionOf('@modelcontextprotocol/sdk'),
    preset: 'mcp',
    setting: 'none',
    transports: 'Streamable HTTP',
    client: packageOf('@modelcontextprotocol/sdk'),
    loadDoor: async () => (await import('../apps/mcp.ts')).createMcpDoor(),
    loadClient: async () => (await import('./clients/mcp.ts')).runMcp,
  },
  {
    name: 'MCP over SSE',
    version: versionOf('@modelcontextprotocol/sdk'),
    preset: 'mcp-sse',
    setting: 'none',
    transports: 'HTTP+SSE',
    client: packageOf('@modelcontextprotocol/sdk'),
    loadDoor: async () => (await import('../apps/mcp-sse.ts')).createMcpSseDoor(),
    loadClient: async () => {
      const { runMcpSseScenario } = await import('../scenarios/mcp-sse.ts');
      return twice(runMcpSseScenario);
    },
  },
  {
    name: 'JSON-RPC',
    version: SMALL_SERVER,
    preset: 'rpc',
    setting: 'none',
    transports: 'HTTP, WebSocket',
    client: packageOf('ws'),
    loadDoor: async () => (await import('../apps/rpc.ts')).createRpcDoor(),
    loadClient: async () => (await import('./clients/rpc.ts')).runRpc,
  },
  {
    name: 'Socket.IO 4',
    version: versionOf('socket.io'),
    preset: 'socket.io',
    setting: 'none',
    transports: 'polling, WebSocket',
    client: packageOf('socket.io-client'),
    loadDoor: async () => (await import('../apps/socket-io.ts')).createSocketIoDoor(),
    loadClient: async () => {
      const scenarios = await import('../scenarios/socket-io.ts');
      return twice(async (target) => {
        await scenarios.runSocketIoScenario(target);
        await scenarios.runSocketIoPollingScenario(target);
      });
    },
  },
  {
    name: 'Socket.IO 2',
    version: versionOf('socket.io-v2'),
    preset: 'socket.io',
    setting: 'none',
    transports: 'polling, WebSocket',
    client: packageOf('socket.io-client-v2'),
    loadDoor: async () => (await import('./servers/socket-io-v2.ts')).createSocketIoV2Door(),
    loadClient: async () => {
      const clients = await import('./clients/socket-io-v2.ts');
      return together(clients.runSocketIoV2, clients.runSocketIoV2Upgrade);
    },
  },
  {
    name: 'Socket.IO 2 by JSONP',
    version: versionOf('socket.io-v2'),
    preset: 'socket.io',
    setting: 'none',
    transports: 'JSONP polling',
    client: packageOf('socket.io-client-v2'),
    loadDoor: undefined,
    loadClient: async () => (await import('./clients/socket-io-v2.ts')).runSocketIoV2Jsonp,
  },
  {
    name: 'Engine.IO 3 by JSONP',
    version: versionOf('socket.io-v2'),
    preset: 'socket.io',
    setting: 'none',
    transports: 'JSONP polling',
    client: 'fetch',
    loadDoor: undefined,
    loadClient: async () => (await import('./clients/engine-io-3.ts')).runEngineIo3Jsonp,
  },
  {
    name: 'SockJS',
    version: versionOf('sockjs'),
    preset: 'sockjs',
    setting: 'none',
    transports: 'WebSocket, XHR streaming, XHR polling',
    client: packageOf('sockjs-client'),
    loadDoor: async () => (await import('../apps/sockjs.ts')).createSockJsDoor(),
    loadClient: async () => twice((await import('../scenarios/sockjs.ts')).runSockJsScenario),
  },
  {
    name: 'SignalR',
    version: SMALL_SERVER,
    preset: 'signalr',
    setting: 'none',
    transports: 'WebSocket, SSE, long polling',
    client: packageOf('@microsoft/signalr'),
    loadDoor: async () => (await import('../apps/signalr.ts')).createSignalRDoor(),
    loadClient: async () => {
      const { runSignalRScenario } = await import('../scenarios/signalr.ts');
      return twice((target) => runSignalRScenario(target));
    },
  },
  {
    name: 'Blazor Server',
    version: SMALL_SERVER,
    preset: 'signalr',
    setting: 'none',
    transports: 'WebSocket, SSE, long polling',
    client: packageOf('@microsoft/signalr'),
    loadDoor: async () => (await import('../apps/signalr.ts')).createSignalRDoor('/_blazor'),
    loadClient: async () => {
      const { runSignalRScenario } = await import('../scenarios/signalr.ts');
      return twice((target) => runSignalRScenario(target, '/_blazor'));
    },
  },
  {
    name: 'Colyseus',
    version: versionOf('@colyseus/core'),
    preset: 'colyseus',
    setting: 'none',
    transports: 'HTTP, WebSocket',
    client: packageOf('@colyseus/sdk'),
    loadDoor: async () => (await import('./servers/colyseus.ts')).createColyseusDoor(),
    loadClient: async () => (await import('./clients/colyseus.ts')).runColyseus,
  },
  {
    name: 'Jupyter',
    version: SMALL_SERVER,
    preset: 'jupyter',
    setting: 'none',
    transports: 'HTTP, WebSocket',
    client: packageOf('@jupyterlab/services'),
    loadDoor: async () => (await import('./servers/jupyter.ts')).createJupyterDoor(),
    loadClient: async () => (await import('./clients/jupyter.ts')).runJupyter,
  },
  {
    name: 'JupyterLab',
    version: SMALL_SERVER,
    preset: 'jupyter',
    setting: 'none',
    transports: 'HTTP, WebSocket',
    client: `${packageOf('@jupyterlab/services')} with cookies`,
    loadDoor: undefined,
    loadClient: async () => (await import('./clients/jupyter-lab.ts')).runJupyterLab,
  },
  {
    name: 'Chrome DevTools Protocol',
    version: SMALL_SERVER,
    preset: 'cdp',
    setting: 'none',
    transports: 'HTTP, WebSocket',
    client: packageOf('chrome-remote-interface'),
    loadDoor: async () => (await import('./servers/cdp.ts')).createCdpDoor(),
    loadClient: async () => (await import('./clients/cdp.ts')).runCdp,
  },
  {
    name: 'y-websocket',
    version: SMALL_SERVER,
    preset: 'yjs',
    setting: 'auto,yjs',
    transports: 'WebSocket',
    client: packageOf('y-websocket'),
    loadDoor: async () => (await import('./servers/yjs.ts')).createYjsDoor(),
    loadClient: async () => (await import('./clients/yjs.ts')).runYjs,
  },
  {
    name: 'Hocuspocus',
    version: versionOf('@hocuspocus/server'),
    preset: 'hocuspocus',
    setting: 'auto,hocuspocus',
    transports: 'WebSocket',
    client: packageOf('@hocuspocus/provider'),
    loadDoor: async () => (await import('./servers/hocuspocus.ts')).createHocuspocusDoor(),
    loadClient: async () => (await import('./clients/hocuspocus.ts')).runHocuspocus,
  },
];
