/** The app of the product table: the servers of all products in one process. */
import { serveDoors } from '../apps/serve-doors.ts';
import type { Door } from '../apps/door.ts';
import { PRODUCTS } from './catalogue.ts';

const doors: Door[] = [];
for (const { loadDoor } of PRODUCTS) {
  if (loadDoor) doors.push(await loadDoor());
}
serveDoors(doors);
