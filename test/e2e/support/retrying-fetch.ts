/** `fetch` as clients do it that respect `Retry-After`. */
import { systemClock } from '../../../src/clock.ts';

/** Less than a sidecar requests, to keep tests short. */
export const RETRY_AFTER_MS = 100;
export const MAX_TRIES = 100;

/** Retries while the response is a 503, and the body can be sent again. */
export const retryingFetch: typeof fetch = async (address, init) => {
  for (let tries = 1; ; tries += 1) {
    const response = await fetch(address, init);
    const isLater = response.status === 503 && response.headers.has('retry-after');
    if (!isLater || tries === MAX_TRIES || init?.body instanceof ReadableStream) return response;
    await response.body?.cancel();
    await systemClock.sleep(RETRY_AFTER_MS);
  }
};
