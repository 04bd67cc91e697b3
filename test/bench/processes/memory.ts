/**
 * Preloaded into a candidate whose memory is measured: collects garbage and reports the remaining
 * memory.
 */

process.on('message', (message) => {
  if (message !== 'memory') return;
  void collect().then(() => process.send?.({ rssBytes: process.memoryUsage.rss() }));
});
// This channel must not keep a candidate running that ends by itself.
process.channel?.unref();

/** Repeated with pauses: what is freed in one turn frees more in the next. */
async function collect(): Promise<void> {
  for (let i = 0; i < 4; i += 1) {
    globalThis.gc?.();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
