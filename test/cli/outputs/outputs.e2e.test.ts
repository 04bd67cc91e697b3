import { compareWithDocs } from './comparison.ts';
import { SLOW } from './slow.ts';

compareWithDocs(SLOW);
