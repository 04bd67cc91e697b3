/** Numbers and times as the status page shows them. */

export function formatCount(count: number): string {
  return count.toLocaleString('en-US');
}

export function formatRate(perSecond: number): string {
  return perSecond.toLocaleString('en-US', { maximumFractionDigits: perSecond < 10 ? 1 : 0 });
}

/** The time of the day, in UTC. */
export function formatTime(at: number): string {
  return new Date(at).toISOString().slice(11, 19);
}
