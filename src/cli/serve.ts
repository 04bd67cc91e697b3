/** `fly-affinity serve`: the sidecar alone. */
import { startSidecar } from '../app/app.ts';
import { serveUntilSignal } from '../app/lifecycle.ts';
import { runSidecarProcess } from '../app/sidecar-process.ts';
import { reportMistake, type CommandModule } from './command.ts';

export const USAGE = `Usage: fly-affinity serve

Runs the sidecar in front of the app that listens at UPSTREAM_URL. The first signal drains it, the
second ends it at once. Settings are environment variables: see fly-affinity help settings.
`;

export const execute: CommandModule['execute'] = (args, context) => {
  if (args.length > 0) {
    const message = 'it takes no arguments: settings are environment variables';
    return Promise.resolve(reportMistake(context, message, 'serve'));
  }
  return runSidecarProcess(context, startSidecar, (own) =>
    serveUntilSignal(own.start(), own.signals, own),
  );
};
