/**
 * The floor: a plain node:http server that responds by itself. No proxy on node:http can be faster.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { responseTo, FIRST_EVENT, STREAM_HEADERS, STREAM_PATH } from '../answers.ts';
import { KEEP_ALIVE, listenAndReport } from './listening.ts';

listenAndReport(createServer(KEEP_ALIVE, serve));

function serve(req: IncomingMessage, res: ServerResponse): void {
  if (req.method === 'POST') {
    req.resume();
    req.on('end', () => response(req.url ?? '', res));
  } else {
    response(req.url ?? '', res);
  }
}

function response(path: string, res: ServerResponse): void {
  if (path === STREAM_PATH) {
    res.writeHead(200, STREAM_HEADERS);
    res.write(FIRST_EVENT);
    return;
  }
  const { statusCode, headers, body } = responseTo(path);
  res.writeHead(statusCode, headers as string[]);
  if (body.length > 0) res.end(body);
  else res.end();
}
