/** Ids that an app mints into its URLs, and reveals in JSON, a Location, a header or a stream: two Machines each. */
import assert from 'node:assert/strict';
import type { RequestListener, ServerResponse } from 'node:http';
import { test, type TestContext } from 'node:test';
import { openFleet, type TestMachine } from '../support/fleet.ts';
import { serveApp } from '../support/sidecar.ts';

type Create = (res: ServerResponse, id: string) => void;

interface Product {
  readonly name: string;
  readonly setting: string;
  readonly createAt: string;
  readonly create: Create;
  readonly use: (id: string) => string;
}

const json = (res: ServerResponse, body: object): void => {
  res
    .writeHead(201, { 'content-type': 'application/json; charset=utf-8' })
    .end(JSON.stringify(body));
};

const PRODUCTS: readonly Product[] = [
  {
    name: 'Jupyter kernels',
    setting: 'path:^/api/kernels/([^/]+) from json:/id,location',
    createAt: '/api/kernels',
    create: (res, id) => {
      res.setHeader('location', `/api/kernels/${id}`);
      json(res, { id, name: 'python3', connections: 0 });
    },
    use: (id) => `/api/kernels/${id}/channels`,
  },
  {
    name: 'WebDriver',
    setting: 'path:^/session/([^/]+) from json:/value/sessionId',
    createAt: '/session',
    create: (res, id) => json(res, { value: { capabilities: { a: [1] }, sessionId: id } }),
    use: (id) => `/session/${id}/url`,
  },
  {
    name: 'tus, with an absolute Location',
    setting: 'path:^/files/([^/]+) from location',
    createAt: '/files',
    create: (res, id) =>
      void res.writeHead(201, { location: `https://any.host/files/${id}` }).end(),
    use: (id) => `/files/${id}`,
  },
  {
    name: 'an id in the query, with letters beyond ASCII',
    setting: 'query:game from json:/game',
    createAt: '/new',
    create: (res, id) => json(res, { game: `${id} ü` }),
    use: (id) => `/play?game=${encodeURIComponent(`${id} ü`)}`,
  },
  {
    name: 'the second of two places in JSON',
    setting: 'path:^/jobs/([^/]+) from json:/job/id,json:/id',
    createAt: '/jobs',
    create: (res, id) => json(res, { id, job: {} }),
    use: (id) => `/jobs/${id}`,
  },
  {
    name: 'a body in which two protocols look for an id',
    setting: 'query:queue from json:/queue,path:^/jobs/([^/]+) from json:/id',
    createAt: '/jobs',
    create: (res, id) => json(res, { state: 'new', id }),
    use: (id) => `/jobs/${id}`,
  },
  {
    name: 'a header of the response',
    setting: 'path:^/jobs/([^/]+) from response-header:X-Job',
    createAt: '/jobs',
    create: (res, id) => void res.writeHead(202, { 'x-job': id }).end(),
    use: (id) => `/jobs/${id}`,
  },
  {
    name: 'the first message of a stream',
    setting: 'path:^/v1/responses/([^/]+) from json:/response/id',
    createAt: '/v1/responses',
    create: (res, id) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      res.end(`event: response.created\ndata: {"response":{"id":"${id}"}}\n\ndata: [DONE]\n\n`);
    },
    use: (id) => `/v1/responses/${id}`,
  },
  {
    name: 'JSON of 1 MB, its id at the beginning',
    setting: 'path:^/docs/([^/]+) from json:/id',
    createAt: '/docs',
    create: (res, id) => json(res, { id, text: 'x'.repeat(1_000_000) }),
    use: (id) => `/docs/${id}`,
  },
];

/** Mints an id at each POST to `createAt`, and knows no others. */
async function startApp(t: TestContext, name: string, product: Product): Promise<number> {
  const known = new Set<string>();
  const listener: RequestListener = (req, res) => {
    req.resume();
    if (req.method === 'POST' && req.url === product.createAt) {
      const id = `${name}-${known.size}`;
      known.add(product.use(id));
      product.create(res, id);
    } else res.writeHead(known.has(req.url ?? '') ? 200 : 404).end(name);
  };
  return serveApp(t, listener);
}

async function call(machine: TestMachine, path: string, method = 'GET'): Promise<Response> {
  return fetch(machine.url + path, { method, redirect: 'manual' });
}

for (const product of PRODUCTS) {
  test(`${product.name}: "${product.setting}"`, async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const env = { SESSION_PROTOCOLS: product.setting };
    const m1 = await fleet.start('m1', await startApp(t, 'a', product), env);
    const m2 = await fleet.start('m2', await startApp(t, 'b', product), env);
    const created = await call(m1, product.createAt, 'POST');
    const app = await serveApp(t, (_, res) => product.create(res, 'a-0'));
    const body = await created.text();
    const own = await fetch(`http://127.0.0.1:${app}`);
    assert.equal(body, await own.text(), 'the body is as the app wrote it');
    assert.equal(created.headers.get('location'), own.headers.get('location'));
    const path = product.use('a-0');
    assert.equal((await call(m1, path)).status, 200);
    const elsewhere = await call(m2, path);
    assert.match(elsewhere.headers.get('fly-replay') ?? '', /^instance=m1;/);
    assert.equal(await m1.rowCount(), 1);
  });
}
