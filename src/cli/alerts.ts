/** `fly-affinity alerts`: prints the alert rules. */
import { print, reportMistake, type CommandModule } from './command.ts';
import { readAlerts } from '../observability/monitoring-files.ts';

export const USAGE = `Usage: fly-affinity alerts > alerts.yaml

Prints alert rules as YAML, in Prometheus's format. Each says what it means and what to do. Fly.io has
no alerts of its own: import the rules into Grafana's alerting, or give them to a Prometheus or a
vmalert that reads Fly.io's metrics. See fly-affinity help operations.
`;

export const execute: CommandModule['execute'] = async (args, context) => {
  if (args.length > 0) return reportMistake(context, 'it takes no arguments', 'alerts');
  await print(context.stdout, readAlerts());
  return 0;
};
