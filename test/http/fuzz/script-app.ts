/** The app of the scripts: handles each request by its plan, on raw sockets. */
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { RequestReader, type ReadRequest } from './request-reader.ts';
import { bodyOf, type Ending, type RequestPlan, type ResponsePlan } from './script.ts';
import type { ScriptWorld } from './script-world.ts';

export async function startScriptApp(t: TestContext, world: ScriptWorld): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    new AppConnection(socket, world);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

class AppConnection {
  readonly #socket: Socket;
  readonly #world: ScriptWorld;
  readonly #reader = new RequestReader();
  #plan: RequestPlan | undefined;
  #seenCount = 0;
  #hasStarted = false;
  #isTunnel = false;
  /** Later bytes are ignored, as by a server that has closed. */
  #hasClosed = false;

  constructor(socket: Socket, world: ScriptWorld) {
    this.#socket = socket;
    this.#world = world;
    socket.on('error', () => undefined);
    socket.on('data', (bytes: Buffer) => this.#receive(bytes));
    socket.on('end', () => void socket.end());
    socket.on('close', () => this.#check(this.#reader.requests.at(-1)));
  }

  #receive(bytes: Buffer): void {
    if (this.#hasClosed) return;
    if (this.#isTunnel) {
      this.#socket.write(bytes);
      return;
    }
    this.#reader.receive(bytes);
    const request = this.#reader.requests.at(-1);
    if (this.#reader.requests.length > this.#seenCount + 1) this.#find('two requests at once');
    if (!request) return;
    if (this.#reader.requests.length > this.#seenCount) this.#begin(request);
    if (request.isComplete) this.#check(request);
    const plan = this.#plan;
    if (!plan || this.#hasStarted || !(request.isComplete || actsAtHead(plan))) return;
    this.#hasStarted = true;
    this.#act(plan).catch((error: unknown) => this.#find(String(error)));
  }

  #begin({ head }: ReadRequest): void {
    this.#seenCount = this.#reader.requests.length;
    this.#hasStarted = false;
    const nonce = head.target.slice(1);
    this.#world.onSeen(nonce);
    const plan = this.#world.planOf(nonce);
    this.#plan = plan;
    if (plan && plan.method !== head.method) this.#find(`another method for ${nonce}`);
  }

  /** Checks that the received body is a prefix of the client's body, and equal to it if complete. */
  #check(request: ReadRequest | undefined): void {
    const plan = this.#plan;
    if (!plan || !request) return;
    const expected = bodyOf(plan.nonce, 'client', plan.bodyBytes).toString('latin1');
    const isRight = request.isComplete
      ? request.body === expected
      : expected.startsWith(request.body);
    if (!isRight) this.#find(`another body of ${plan.nonce}, ${request.body.length} bytes`);
  }

  #find(what: string): void {
    this.#world.findings.push(`app: ${what}, ${JSON.stringify(this.#plan)}`);
  }

  async #act(plan: RequestPlan): Promise<void> {
    const { app, nonce, method } = plan;
    switch (app.kind) {
      case 'respond':
        for (const part of responseParts(plan, app)) await this.#write(part);
        this.#world.onAnswered(nonce);
        if (app.framing === 'until-close' && method !== 'HEAD') this.#close('end');
        else if (app.then !== 'keep') this.#close(app.then);
        break;
      case 'cut': {
        const parts = responseParts(plan, app);
        for (const part of parts.slice(0, -1)) await this.#write(part);
        const last = parts.at(-1) ?? NOTHING;
        await this.#write(last.subarray(0, Math.floor(last.length / 2)));
        this.#world.onAnswered(nonce);
        this.#close(app.by);
        break;
      }
      case 'exceed': {
        const body = method === 'HEAD' ? NOTHING : bodyOf(nonce, 'app', app.bytes);
        const head = Buffer.from(headOf(nonce, `Content-Length: ${app.bytes}`));
        this.#world.onAnswered(nonce);
        await this.#write(
          Buffer.concat([head, body, Buffer.from(headOf('evil', 'Content-Length: 0'))]),
        );
        break;
      }
      case 'close':
        this.#world.onAnswered(nonce);
        this.#close(app.by);
        break;
      case 'silent':
        break;
      case 'switch':
        this.#isTunnel = true;
        this.#world.onAnswered(nonce);
        await this.#write(
          Buffer.from(`HTTP/1.1 101 Switching Protocols\r\nX-Nonce: ${nonce}\r\n${UPGRADE}`),
        );
        await this.#write(bodyOf(nonce, 'app', app.bytes));
        if (app.isFirst) this.#close(app.by);
        break;
    }
  }

  async #write(bytes: Buffer): Promise<void> {
    if (this.#socket.destroyed || bytes.length === 0) return;
    this.#socket.write(bytes);
    await nextTurn();
  }

  #close(by: Ending): void {
    this.#hasClosed = true;
    if (by === 'end') this.#socket.end();
    else if (!this.#socket.destroyed) this.#socket.resetAndDestroy();
  }
}

const NOTHING = Buffer.alloc(0);
const UPGRADE = 'Connection: Upgrade\r\nUpgrade: foo\r\n\r\n';

function actsAtHead({ app }: RequestPlan): boolean {
  return 'at' in app && app.at === 'head';
}

function headOf(nonce: string, field: string): string {
  return `HTTP/1.1 200 OK\r\nX-Nonce: ${nonce}\r\n${field}\r\n\r\n`;
}

/** The complete response in pieces. The first piece is its head with the interim responses. */
function responseParts({ nonce, method }: RequestPlan, plan: ResponsePlan): Buffer[] {
  const fields = {
    length: `Content-Length: ${plan.bytes}`,
    chunked: 'Transfer-Encoding: chunked',
    'until-close': 'X-Until: close',
  };
  const interim = `HTTP/1.1 103 Early Hints\r\nX-Nonce: ${nonce}\r\n\r\n`.repeat(plan.interim);
  const head = Buffer.from(`${interim}${headOf(nonce, fields[plan.framing])}`);
  if (method === 'HEAD') return [head];
  const body = bodyOf(nonce, 'app', plan.bytes);
  const parts: Buffer[] = [];
  const length = Math.max(1, Math.ceil(body.length / plan.pieces));
  for (let at = 0; at < body.length; at += length) parts.push(body.subarray(at, at + length));
  if (plan.framing !== 'chunked') return joined(head, parts);
  const chunks = parts.map((part) =>
    Buffer.concat([Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from('\r\n')]),
  );
  return joined(head, [...chunks, Buffer.from('0\r\n\r\n')]);
}

/** Joins the head and the first piece of the body. */
function joined(head: Buffer, [first = NOTHING, ...others]: Buffer[]): Buffer[] {
  return [Buffer.concat([head, first]), ...others];
}
