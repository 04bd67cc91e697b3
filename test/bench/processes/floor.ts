/** The floor: a bare node:http server that answers by itself. No proxy on node:http can be faster. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { answerTo, FIRST_EVENT, STREAM_HEADERS, STREAM_PATH } from '../answers.ts';
import { KEEP_ALIVE, listenAndTell } from './listening.ts';

listenAndTell(createServer(KEEP_ALIVE, serve));

function serve(req: IncomingMessage, res: ServerResponse): void {
  if (req.method === 'POST') {
    req.resume();
    req.on('end', () => answer(req.url ?? '', res));
  } else {
    answer(req.url ?? '', res);
  }
}

function answer(path: string, res: ServerResponse): void {
  if (path === STREAM_PATH) {
    res.writeHead(200, STREAM_HEADERS);
    res.write(FIRST_EVENT);
    return;
  }
  const { statusCode, headers, body } = answerTo(path);
  res.writeHead(statusCode, headers as string[]);
  if (body.length > 0) res.end(body);
  else res.end();
}
