/** Work that may not grow with the square of its input. */

/** How long the step keeps this thread busy, in ms: not the time that others take meanwhile. */
export function cpuMsOf(step: () => void): number {
  const before = process.threadCpuUsage();
  step();
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1_000;
}
