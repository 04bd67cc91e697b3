import { runInOneProcess } from '../support/one-process.ts';
import { everyOther, WIRE } from '../support/suite.ts';

await runInOneProcess(everyOther(WIRE, 1));
