/** Express with the sessions of `express-session`, in its store in memory. */
import express, { type Request, type Response } from 'express';
import session from 'express-session';
import { HERE, type Door } from '../../apps/door.ts';
import { noteEnded, noteOpened, noteRequest } from '../../apps/journal.ts';

const PATH = '/express/';

declare module 'express-session' {
  interface SessionData {
    count: number;
  }
}

export function createExpressDoor(): Door {
  const app = express();
  app.use(
    session({
      secret: 'a secret of the test',
      resave: false,
      saveUninitialized: false,
      cookie: { path: PATH },
    }),
  );
  app.post(`${PATH}login`, login);
  app.post(`${PATH}basket`, fillBasket);
  app.post(`${PATH}logout`, logout);
  return { paths: [PATH], handle: (request, response) => void app(request, response) };
}

/** Whoever logs in gets a new id, against session fixation. */
function login(request: Request, response: Response): void {
  request.session.regenerate((error) => {
    if (error !== undefined && error !== null) throw error as Error;
    request.session.count = 0;
    noteOpened(request.sessionID);
    response.json({ ...HERE, count: 0 });
  });
}

function fillBasket(request: Request, response: Response): void {
  const { count } = request.session;
  if (isNamed(request)) noteRequest(request, request.sessionID, count !== undefined);
  if (count === undefined) {
    response.status(401).json({ ...HERE, error: 'not logged in' });
    return;
  }
  request.session.count = count + 1;
  response.json({ ...HERE, count: count + 1 });
}

function logout(request: Request, response: Response): void {
  const id = request.sessionID;
  request.session.destroy(() => {
    noteEnded(id);
    response.clearCookie('connect.sid', { path: PATH }).json(HERE);
  });
}

/** Without the cookie the library mints an id that no client knows. */
function isNamed(request: Request): boolean {
  return request.headers.cookie?.includes('connect.sid=') ?? false;
}
