/** The process that responded, by the headers of `../servers/here-headers.ts`. */
import type { Place } from '../../apps/door.ts';

export function placeIn(headerOf: (name: string) => string | null | undefined): Place {
  return { machine: headerOf('x-machine') ?? '', pid: Number(headerOf('x-pid')) };
}
