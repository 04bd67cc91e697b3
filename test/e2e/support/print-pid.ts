/** Imported by a process before its own code, so that a test can freeze it. */
process.stdout.write(`@pid ${process.pid}\n`);
