/** Configurations and fly.toml files for the tests of doctor, and findings as short strings. */
import assert from 'node:assert/strict';
import { parseConfig, type Config, type Environment } from '../../src/config/config.ts';
import type { Finding } from '../../src/doctor/report.ts';
import { parseFlyToml, type FlyToml } from '../../src/doctor/fly-toml.ts';

export function configOf(env: Environment = {}): Config {
  const parsed = parseConfig({ FLY_MACHINE_ID: 'm1', FLY_APP_NAME: 'app', ...env }, () => 0.5);
  assert.ok(parsed.config, parsed.mistakes?.join('\n'));
  return parsed.config;
}

export function tomlOf(text: string): FlyToml {
  const parsed = parseFlyToml(text);
  assert.ok(parsed.kind === 'parsed', 'mistake' in parsed ? parsed.mistake : '');
  return parsed.toml;
}

/** `level: sentence` of each finding that is not ok. */
export function troubles(findings: readonly Finding[]): string[] {
  return findings
    .filter(({ level }) => level !== 'ok')
    .map(({ level, what }) => `${level}: ${what}`);
}

/** The advice of each finding that has one. */
export function advice(findings: readonly Finding[]): string[] {
  return findings.flatMap((finding) =>
    'instead' in finding && finding.instead !== undefined ? [finding.instead] : [],
  );
}
