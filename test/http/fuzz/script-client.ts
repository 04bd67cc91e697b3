/** The client of a script: sends, reads and disconnects as planned, and checks every received byte. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { bodyOf, mustSucceed, type RequestPlan, type Script } from './script.ts';
import type { ScriptWorld } from './script-world.ts';
import { ResponseReader } from './response-reader.ts';

/** Longer than any response takes, even on a busy computer. In ms. */
const HANG_MS = 30_000;
/** Limits for one request. */
const MOST_PIECES = 100;
const MOST_PAUSES = 20;

export async function runScript(script: Script, port: number, world: ScriptWorld): Promise<void> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
  await once(socket, 'connect');
  const client = new ScriptClient(script, socket, world);
  const timer = setTimeout(() => client.abort(), HANG_MS);
  socket.on('data', () => void timer.refresh());
  await client.run();
  clearTimeout(timer);
  client.check();
}

class ScriptClient {
  readonly #script: Script;
  readonly #socket: Socket;
  readonly #world: ScriptWorld;
  /** One reader for each response that has started. */
  readonly #readers: ResponseReader[] = [];
  #sentBytes = 0;
  #receivedBytes = 0;
  #pauses = 0;
  #isClosed = false;
  #wasReset = false;
  #hasLeft = false;
  #hangs = false;
  #tunnel: Buffer[] | undefined;
  readonly #waiting = new Set<() => void>();

  constructor(script: Script, socket: Socket, world: ScriptWorld) {
    this.#script = script;
    this.#socket = socket;
    this.#world = world;
    socket.on('data', (bytes: Buffer) => void this.#receive(bytes));
    socket.on('error', () => (this.#wasReset = true));
    socket.on('end', () => void socket.end());
    socket.on('close', () => {
      this.#isClosed = true;
      this.#wake();
    });
  }

  async run(): Promise<void> {
    const { requests, client } = this.#script;
    for (const [index, request] of requests.entries()) {
      if (this.#isOver) break;
      await this.#send(requestBytes(request));
      if (request.app.kind === 'silent') await this.#leaveSilent(request, index);
      const isSwitch = request.app.kind === 'switch';
      if (!client.pipelines || isSwitch) await this.#until(() => this.#completeCount > index);
      if (isSwitch) await this.#useTunnel(request);
    }
    await this.#until(() => this.#completeCount === requests.length);
    if (!this.#hasLeft) this.#leave('end');
    await this.#until(() => false);
  }

  abort(): void {
    this.#hangs = true;
    this.#socket.destroy();
  }

  get #isOver(): boolean {
    return this.#isClosed || this.#hasLeft;
  }

  get #completeCount(): number {
    return this.#readers.filter(({ read }) => isOver(read.ending)).length;
  }

  async #send(bytes: Buffer): Promise<void> {
    const { pieceBytes, leaves } = this.#script.client;
    const most = Math.max(pieceBytes, Math.ceil(bytes.length / MOST_PIECES));
    for (let at = 0; at < bytes.length && !this.#isOver;) {
      const isLeaving = leaves?.after === 'sending';
      const left = isLeaving ? leaves.bytes - this.#sentBytes : Infinity;
      const end = Math.min(bytes.length, at + most, at + left);
      this.#socket.write(bytes.subarray(at, end));
      this.#sentBytes += end - at;
      at = end;
      if (isLeaving && this.#sentBytes === leaves.bytes) this.#leave(leaves.by);
      await nextTurn();
    }
  }

  /** The app does not respond, so the client disconnects when the app has the request, or when it gets a response. */
  async #leaveSilent({ nonce }: RequestPlan, index: number): Promise<void> {
    const isResponded = (): boolean => this.#completeCount > index;
    await Promise.race([this.#world.untilSeen(nonce), this.#until(isResponded)]);
    if (!this.#isOver && !isResponded()) this.#leave(this.#script.client.leaves?.by ?? 'reset');
    // A half-closed client would still get a late response. This one does not wait for it, and the
    // listener detects that.
    if (this.#hasLeft) this.#socket.destroySoon();
  }

  #leave(by: 'end' | 'reset'): void {
    this.#hasLeft = true;
    if (by === 'end') this.#socket.end();
    else this.#socket.resetAndDestroy();
  }

  async #useTunnel({ nonce, app }: RequestPlan): Promise<void> {
    if (app.kind !== 'switch' || this.#tunnel === undefined) return;
    await this.#send(bodyOf(nonce, 'client', app.bytes));
    if (app.isFirst) return;
    const echoed = 2 * app.bytes;
    await this.#until(() => this.#tunnelBytes.length >= echoed);
    if (!this.#isOver) this.#leave(app.by);
  }

  get #tunnelBytes(): Buffer {
    return Buffer.concat(this.#tunnel ?? []);
  }

  async #receive(bytes: Buffer): Promise<void> {
    this.#receivedBytes += bytes.length;
    this.#read(bytes);
    this.#wake();
    const { leaves, pauseTurns } = this.#script.client;
    if (leaves?.after === 'receiving' && this.#receivedBytes >= leaves.bytes && !this.#isOver) {
      this.#leave(leaves.by);
    }
    if (pauseTurns === 0 || this.#pauses === MOST_PAUSES) return;
    this.#pauses += 1;
    this.#socket.pause();
    for (let turn = 0; turn < pauseTurns; turn += 1) await nextTurn();
    this.#socket.resume();
  }

  #read(bytes: Buffer): void {
    if (this.#tunnel) {
      this.#tunnel.push(bytes);
      return;
    }
    let rest = bytes;
    while (rest.length > 0) {
      const reader = this.#currentReader();
      if (!reader) {
        this.#report(`bytes without a request: ${JSON.stringify(rest.toString('latin1', 0, 200))}`);
        return;
      }
      reader.receive(rest);
      rest = isOver(reader.read.ending) ? reader.rest : NOTHING;
      if (reader.read.ending === 'switched') {
        this.#tunnel = [rest];
        return;
      }
    }
  }

  #currentReader(): ResponseReader | undefined {
    const last = this.#readers.at(-1);
    if (last && !isOver(last.read.ending)) return last;
    const request = this.#script.requests[this.#readers.length];
    if (!request) return undefined;
    const reader = new ResponseReader(request.method);
    this.#readers.push(reader);
    return reader;
  }

  async #until(isTrue: () => boolean): Promise<void> {
    while (!isTrue() && !this.#isClosed) {
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }

  #report(what: string): void {
    this.#world.report(this.#script, what);
  }

  // Checks of the received bytes

  check(): void {
    const { requests } = this.#script;
    if (this.#hangs) this.#report(`it hangs after ${this.#completeCount} responses`);
    for (const [index, reader] of this.#readers.entries()) {
      const request = requests[index];
      if (request) this.#checkResponse(request, reader);
    }
    const count = this.#deliveredCount;
    const next = requests[count];
    const last = this.#readers[count - 1]?.read.head;
    const mayStop = last?.isPersistent === false || last?.statusCode === 101;
    const isBehindEarly = count > 0 && mayEndEarly(requests[count - 1]);
    if (!next || this.#hasLeftEarly || mayStop || isBehindEarly || !mustSucceed(this.#script, next))
      return;
    const { read } = this.#readers[count] ?? {};
    this.#report(
      `no response to ${next.nonce}, but ${read?.ending ?? 'nothing'}, ${read?.body.length ?? 0} bytes`,
    );
  }

  /** It disconnected before all responses arrived, or a reset discarded unread bytes. */
  get #hasLeftEarly(): boolean {
    const { client, requests } = this.#script;
    const isResetDue = requests.some(
      ({ app, version }) => app.kind === 'switch' || version === '1.0',
    );
    return client.leaves !== undefined || this.#hangs || (this.#wasReset && isResetDue);
  }

  get #deliveredCount(): number {
    return this.#readers.filter(({ read }) => this.#isDelivered(read)).length;
  }

  /** The response is complete, or completed by the end of the connection. */
  #isDelivered({ ending, framing }: ResponseReader['read']): boolean {
    if (isOver(ending)) return true;
    return ending === 'open' && framing === 'until-close' && !this.#wasReset && !this.#hasLeftEarly;
  }

  #checkResponse({ nonce, app, method }: RequestPlan, { read }: ResponseReader): void {
    const { head, body } = read;
    if (read.ending === 'refused' || read.ending === 'broken body')
      this.#report(`the response is ${read.ending}`);
    if (!head) return;
    const at = head.rawHeaders.indexOf('X-Nonce');
    const named = head.rawHeaders[at + 1];
    if (named !== nonce) this.#report(`the response to ${nonce} is that to ${String(named)}`);
    if (head.statusCode === 101) {
      this.#checkTunnel(nonce, app.kind === 'switch' ? app.bytes : 0);
      return;
    }
    if (head.statusCode !== 200) {
      if (this.#script.isTame) this.#report(`${head.statusCode} for ${nonce}: ${body}`);
      return;
    }
    const length = 'bytes' in app && method !== 'HEAD' ? app.bytes : 0;
    const expected = bodyOf(nonce, 'app', length).toString('latin1');
    const isWhole = this.#isDelivered(read) && app.kind !== 'cut';
    const isRight = isWhole ? body === expected : expected.startsWith(body);
    if (!isRight) this.#report(`another body for ${nonce}: ${body.length} of ${length} bytes`);
    if (app.kind === 'cut' && this.#isDelivered(read) && !isHarmless(app.framing, method)) {
      this.#report(`a response that was cut off looks complete: ${nonce}`);
    }
  }

  #checkTunnel(nonce: string, bytes: number): void {
    const expected = [bodyOf(nonce, 'app', bytes), bodyOf(nonce, 'client', bytes)];
    const got = this.#tunnelBytes;
    const isRight = Buffer.concat(expected).subarray(0, got.length).equals(got);
    if (!isRight) this.#report(`other bytes in the tunnel of ${nonce}`);
  }
}

const NOTHING = Buffer.alloc(0);

function isOver(ending: ResponseReader['read']['ending']): boolean {
  return ending === 'complete' || ending === 'switched';
}

/** An early response may be the last of its connection. */
function mayEndEarly(plan: RequestPlan | undefined): boolean {
  return (
    plan !== undefined && plan.framing !== 'none' && 'at' in plan.app && plan.app.at === 'head'
  );
}

/** Without a length, an aborted response looks complete. A response to HEAD has no body. */
function isHarmless(framing: string, method: string): boolean {
  return framing === 'until-close' || method === 'HEAD';
}

function requestBytes({ nonce, method, version, framing, bodyBytes, app }: RequestPlan): Buffer {
  const fields = [`Host: h`, `X-Nonce: ${nonce}`];
  if (version === '1.0' && bodyBytes % 2 === 0) fields.push('Connection: keep-alive');
  if (app.kind === 'switch') fields.push('Connection: Upgrade', 'Upgrade: foo');
  if (framing === 'length') fields.push(`Content-Length: ${bodyBytes}`);
  if (framing === 'chunked') fields.push('Transfer-Encoding: chunked');
  const head = Buffer.from(`${method} /${nonce} HTTP/${version}\r\n${fields.join('\r\n')}\r\n\r\n`);
  const body = bodyOf(nonce, 'client', bodyBytes);
  return Buffer.concat([head, ...(framing === 'chunked' ? chunksOf(body) : [body])]);
}

function chunksOf(body: Buffer): Buffer[] {
  const half = Math.ceil(body.length / 2);
  const parts = [body.subarray(0, half), body.subarray(half)].filter(({ length }) => length > 0);
  return [
    ...parts.flatMap((part) => [
      Buffer.from(`${part.length.toString(16)}\r\n`),
      part,
      Buffer.from('\r\n'),
    ]),
    Buffer.from('0\r\n\r\n'),
  ];
}
