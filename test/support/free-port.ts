/** Ports for processes that must know them before they listen. */
import { createPortFinder } from '../../src/simulator/processes.ts';

/**
 * A port without a listener that no outgoing connection uses meanwhile. The system's own choice,
 * port 0, would be one of those that it assigns to the next connection of any other test.
 */
export const freePort = createPortFinder(Math.random);
