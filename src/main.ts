#!/usr/bin/env node
// Nothing is imported before the check: an older Node would fail at loading SQLite, with a riddle.
// What stands here has to run on it, so the rest is imported after.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);

if (major < 22 || (major === 22 && minor < 19)) {
  console.error(`fly-affinity needs Node.js 22.19 or newer, and this is ${process.version}.`);
  process.exitCode = 1;
} else {
  void import('./cli/command.ts')
    .then(({ runCommand }) => runCommand(process.argv.slice(2)))
    .then((code) => process.exit(code));
}
