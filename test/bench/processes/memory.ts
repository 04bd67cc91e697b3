/** Preloaded into a candidate whose memory is measured: collects garbage and tells what is left. */

process.on('message', (message) => {
  if (message !== 'memory') return;
  void collect().then(() => process.send?.({ rssBytes: process.memoryUsage.rss() }));
});
// A candidate that ends by itself must not be kept by this channel.
process.channel?.unref();

/** More than once and with pauses: what is freed in one turn frees more in the next. */
async function collect(): Promise<void> {
  for (let i = 0; i < 4; i += 1) {
    globalThis.gc?.();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
