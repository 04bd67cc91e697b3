#!/usr/bin/env node
// Checks the version of Node.js before anything is imported: an older one would fail at loading SQLite,
// with an unhelpful message. This file must run on old versions too.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);

if (major < 22 || (major === 22 && minor < 19)) {
  console.error(`fly-affinity needs Node.js 22.19 or newer, but this is ${process.version}.`);
  process.exitCode = 1;
} else {
  // Without a listener it opens the inspector, and a client of the inspector can run code here.
  process.on('SIGUSR1', () => undefined);
  // Sent to the first process of a container, it means the app, and its default is to end the process.
  process.on('SIGUSR2', () => undefined);
  leaveNodeOptionsToTheApp();
  void import('./cli/commands.ts')
    .then(({ runCommand }) => runCommand(process.argv.slice(2)))
    .then((code) => process.exit(code));
}

/** Modules that the app preloads, its limits and its inspector are not for the sidecar: starts anew without. */
function leaveNodeOptionsToTheApp(): void {
  const { NODE_OPTIONS: options, ...env } = process.env;
  if (options === undefined || options === '' || !process.execve) return;
  const args = [...process.execArgv, ...process.argv.slice(1)];
  // `contextOf` in commands.ts gives them back.
  process.execve(process.execPath, [process.execPath, ...args], {
    ...env,
    FLY_AFFINITY_APP_NODE_OPTIONS: options,
  });
}
