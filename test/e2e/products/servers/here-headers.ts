/** For products whose bodies leave no room for the name of the process. */
import type { ServerResponse } from 'node:http';
import { HERE } from '../../apps/door.ts';

export function nameHere(response: ServerResponse): void {
  response.setHeader('x-machine', HERE.machine);
  response.setHeader('x-pid', HERE.pid);
}
