/** The Grafana dashboard and the alert rules. They lie beside this file, and in `dist` beside its bundle. */
import { readFileSync } from 'node:fs';

/** JSON, as Grafana imports it. */
export function readDashboard(): string {
  return readFileSync(new URL('./dashboard.json', import.meta.url), 'utf8');
}

/** YAML, in Prometheus's format of rules. */
export function readAlerts(): string {
  return readFileSync(new URL('./alerts.yaml', import.meta.url), 'utf8');
}
