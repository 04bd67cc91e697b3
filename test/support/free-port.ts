/** Ports for processes that have to know theirs before they listen. */
import { createPortFinder } from '../../src/simulator/processes.ts';

/**
 * A port where nobody listens, and which no outgoing connection takes meanwhile. The system's own
 * choice, port 0, would be one of those that it gives to the next connection of any other test.
 */
export const freePort = createPortFinder(Math.random);
