#!/usr/bin/env node
// Checks the version of Node.js before anything is imported: an older one would fail at loading SQLite,
// with an unhelpful message. This file must run on old versions too.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);

if (major < 22 || (major === 22 && minor < 19)) {
  console.error(`fly-affinity needs Node.js 22.19 or newer, but this is ${process.version}.`);
  process.exitCode = 1;
} else {
  void import('./cli/commands.ts')
    .then(({ runCommand }) => runCommand(process.argv.slice(2)))
    .then((code) => process.exit(code));
}
