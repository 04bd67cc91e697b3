/** The built-in demo app as a process of its own: what `simulate` starts in each Machine. */
import { createDemoApp } from '../simulator/demo-app.ts';

const { PORT = '3000', FLY_MACHINE_ID = 'local' } = process.env;

createDemoApp(FLY_MACHINE_ID).listen(Number(PORT), '127.0.0.1');
