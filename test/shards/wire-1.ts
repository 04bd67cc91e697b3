import { runInOneProcess } from '../support/one-process.ts';
import { halfOf, WIRE } from '../support/suite.ts';

await runInOneProcess(halfOf(WIRE, 0));
