/** Imported by a process before its own code, so that a test can make it stand still. */
process.stdout.write(`@pid ${process.pid}\n`);
