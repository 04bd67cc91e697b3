/** Small apps for `try`, each as the arguments of Node.js. */
import { fileURLToPath } from 'node:url';

function script(text: string): readonly string[] {
  return [process.execPath, '--input-type=module', '--eval', text];
}

/** The official SDK's server. */
export const MCP_APP: readonly string[] = [
  process.execPath,
  '--import',
  'tsx',
  fileURLToPath(new URL('../../demo/mcp-server.ts', import.meta.url)),
];

/** It mints an `x-session-id`, and knows its own ids only. */
export const RPC_APP = script(`
import { createServer } from 'node:http';
const known = new Set();
createServer((request, response) => {
  const id = request.headers['x-session-id'];
  if (request.url !== '/rpc') response.writeHead(404).end();
  else if (id === undefined) {
    const minted = crypto.randomUUID();
    known.add(minted);
    response.writeHead(200, { 'x-session-id': minted }).end();
  } else response.writeHead(known.has(id) ? 200 : 404).end('no such session: ' + id);
}).listen(process.env.PORT, '127.0.0.1');
`);

export const STATELESS_MCP_APP = script(`
import { createServer } from 'node:http';
const result = { protocolVersion: '2025-06-18', capabilities: {} };
createServer((request, response) => {
  response.end(JSON.stringify({ jsonrpc: '2.0', id: 0, result }));
}).listen(process.env.PORT, '127.0.0.1');
`);

export const PLAIN_APP = script(`
import { createServer } from 'node:http';
createServer((request, response) => response.end('hello')).listen(process.env.PORT, '127.0.0.1');
`);

/** It takes a port of its own choice, and prints it. */
export const APP_WITHOUT_PORT = script(`
import { createServer } from 'node:http';
createServer((request, response) => response.end('hello')).listen(0, '127.0.0.1');
`);

/** It exits at its twentieth request. */
export const DYING_APP = script(`
import { createServer } from 'node:http';
let count = 0;
createServer((request, response) => {
  count += 1;
  if (count === 20) { console.error('out of luck'); process.exit(3); }
  response.writeHead(200, { 'x-session-id': request.headers['x-session-id'] ?? String(Math.random()) });
  response.end();
}).listen(process.env.PORT, '127.0.0.1');
`);

/** It never listens. */
export const SILENT_APP = script(`console.log('started'); setInterval(() => {}, 1000);`);

/** Rooms in WebSockets; it leaves every other request without a response. */
export const ROOMS_APP = script(`
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
const server = createServer((request, response) => {
  if (request.url !== '/mcp') response.writeHead(404).end();
});
new WebSocketServer({ server });
server.listen(process.env.PORT, '127.0.0.1');
`);

/** It leaves a call in a session that it does not know without a response. */
export const MUTE_APP = script(`
import { createServer } from 'node:http';
const known = new Set();
createServer((request, response) => {
  const id = request.headers['x-session-id'];
  if (id !== undefined && !known.has(id)) return;
  const minted = id ?? crypto.randomUUID();
  known.add(minted);
  response.writeHead(200, { 'x-session-id': minted }).end();
}).listen(process.env.PORT, '127.0.0.1');
`);

/** It opens sessions, and knows none. */
export const FORGETFUL_APP = script(`
import { createServer } from 'node:http';
createServer((request, response) => {
  const id = request.headers['x-session-id'];
  if (id === undefined) response.writeHead(200, { 'x-session-id': crypto.randomUUID() }).end();
  else response.writeHead(404).end('never heard of it');
}).listen(process.env.PORT, '127.0.0.1');
`);
