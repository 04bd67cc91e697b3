/**
 * The npm package `http-proxy`, with keep-alive connections, in front of the app on the given port.
 */
import { Agent, createServer } from 'node:http';
import type { Socket } from 'node:net';
import httpProxy from 'http-proxy';
import { KEEP_ALIVE, listenAndReport } from './listening.ts';

const proxy = httpProxy.createProxyServer({
  target: `http://127.0.0.1:${process.argv[2]}`,
  agent: new Agent({ keepAlive: true }),
});
// The bench detects it by the broken connection.
proxy.on('error', (_error, _req, res) => (res as Socket).destroy());

const server = createServer(KEEP_ALIVE, (req, res) => proxy.web(req, res));
server.on('upgrade', (req, socket, head) => proxy.ws(req, socket, head));
listenAndReport(server);
