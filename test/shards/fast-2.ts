import { runInOneProcess } from '../support/one-process.ts';
import { FAST, halfOf } from '../support/suite.ts';

await runInOneProcess(halfOf(FAST, 1));
