/** `fly-affinity dashboard`: prints the Grafana dashboard. */
import { print, reportMistake, type CommandModule } from './command.ts';
import { readDashboard } from '../observability/monitoring-files.ts';

export const USAGE = `Usage: fly-affinity dashboard > dashboard.json

Prints a dashboard for Grafana as JSON: requests, sessions, latency, fleet, store and process, for the
metrics of the sidecars as Fly.io collects them. Import it with Dashboards, New, Import; then choose
the data source and the app. See fly-affinity help operations.
`;

export const execute: CommandModule['execute'] = async (args, context) => {
  if (args.length > 0) return reportMistake(context, 'it takes no arguments', 'dashboard');
  await print(context.stdout, readDashboard());
  return 0;
};
