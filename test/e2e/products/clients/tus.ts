/** tus's own client: an upload of several chunks, paused, resumed, completed and removed. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Agent } from 'node:http';
import { DefaultHttpStack, Upload, type HttpResponse } from 'tus-js-client';
import { z } from 'zod';
import type { Place } from '../../apps/door.ts';
import { MAX_TRIES, RETRY_AFTER_MS } from '../../support/retrying-fetch.ts';
import type { Target } from '../../support/target.ts';
import { placeIn } from './here-headers.ts';

interface UploadKind {
  /** Whether the server responds with whole URLs or with relative ones. */
  readonly endpoint: '/files' | '/uploads';
  readonly chunkBytes: number;
}

const SMALL_CHUNK_BYTES = 60_000;
/** The edge cannot replay a request of this size. */
const LARGE_CHUNK_BYTES = 1_500_000;
const CHUNKS = 8;
const PAUSE_AFTER_CHUNKS = 4;
/** HEAD and PATCH before and after the pause, the last DELETE. */
const METHODS = ['POST', 'PATCH', 'HEAD', 'DELETE'];

const KINDS: readonly UploadKind[] = [
  { endpoint: '/files', chunkBytes: SMALL_CHUNK_BYTES },
  { endpoint: '/uploads', chunkBytes: SMALL_CHUNK_BYTES },
  { endpoint: '/files', chunkBytes: LARGE_CHUNK_BYTES },
];

export async function runTus(target: Target, midway: () => Promise<void>): Promise<void> {
  const agent = new Agent({ keepAlive: false });
  const uploads = KINDS.map((kind) => new PausedUpload(target, kind, agent));
  for (const upload of uploads) await upload.sendFirstHalf();
  await midway();
  for (const upload of uploads) await upload.sendSecondHalf();
}

class PausedUpload {
  readonly #upload: Upload;
  readonly #methods = new Set<string>();
  #place: Place | undefined;
  #chunks = 0;
  #succeed: () => void = () => undefined;
  #pause: () => void = () => undefined;
  #fail: (error: Error) => void = () => undefined;

  constructor({ url }: Target, { endpoint, chunkBytes }: UploadKind, agent: Agent) {
    this.#upload = new Upload(randomBytes(CHUNKS * chunkBytes), {
      endpoint: url + endpoint,
      chunkSize: chunkBytes,
      httpStack: new DefaultHttpStack({ agent }),
      retryDelays: Array<number>(MAX_TRIES).fill(RETRY_AFTER_MS),
      // The client itself would also try to continue at a Machine without the upload.
      onShouldRetry: ({ originalResponse }) => originalResponse?.getStatus() === 503,
      onAfterResponse: (request, response) => this.#check(request.getMethod(), response),
      onChunkComplete: () => this.#countChunk(),
      onSuccess: () => this.#succeed(),
      onError: (error) => this.#fail(error),
    });
  }

  async sendFirstHalf(): Promise<void> {
    const paused = new Promise<void>((resolve, reject) => {
      this.#pause = resolve;
      this.#fail = reject;
    });
    this.#upload.start();
    await paused;
    await this.#upload.abort();
    assert.equal(this.#chunks, PAUSE_AFTER_CHUNKS);
  }

  /** The client asks by HEAD how much has arrived. */
  async sendSecondHalf(): Promise<void> {
    const completed = new Promise<void>((resolve, reject) => {
      this.#succeed = resolve;
      this.#fail = reject;
    });
    this.#upload.start();
    await completed;
    assert.equal(this.#chunks, CHUNKS);
    await this.#upload.abort(true);
    assert.deepEqual([...this.#methods].toSorted(), METHODS.toSorted());
  }

  #countChunk(): void {
    this.#chunks += 1;
    if (this.#chunks !== PAUSE_AFTER_CHUNKS) return;
    void this.#upload.abort();
    this.#pause();
  }

  #check(method: string, response: HttpResponse): void {
    if (response.getStatus() === 503) return;
    const place = placeIn((name) => response.getHeader(name));
    this.#place ??= z.object({ machine: z.string().min(1), pid: z.int() }).parse(place);
    assert.deepEqual(place, this.#place, `${method} ${response.getStatus()}`);
    this.#methods.add(method);
  }
}
