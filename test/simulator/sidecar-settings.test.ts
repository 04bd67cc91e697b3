/** The settings of simulated sidecars: those of the environment, under the names that they have there. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { checkSidecarSettings } from '../../src/simulator/fleet.ts';

function check(env: Record<string, string>): void {
  const sidecarEnv = { LOG_LEVEL: 'warn' };
  checkSidecarSettings({ appName: 'app', env, sidecarEnv }, () => 0.5);
}

describe('a collector that is no URL', () => {
  test('is left to the app', () => {
    check({ OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317' });
  });

  test('is a mistake if it is meant for the sidecar', () => {
    assert.throws(
      () => check({ FLY_AFFINITY_OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317' }),
      /^ {2}FLY_AFFINITY_OTEL_EXPORTER_OTLP_ENDPOINT must be .*, got "collector:4317"$/m,
    );
  });
});

test('what each Machine has of its own wins over both names in the environment', () => {
  check({
    PORT: 'a',
    FLY_AFFINITY_PORT: 'b',
    FLY_AFFINITY_LOG_LEVEL: 'c',
    FLY_AFFINITY_FLEET: 'd',
  });
});
