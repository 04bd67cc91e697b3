import { runInOneProcess } from '../support/one-process.ts';
import { everyOther, FAST } from '../support/suite.ts';

await runInOneProcess(everyOther(FAST, 1));
