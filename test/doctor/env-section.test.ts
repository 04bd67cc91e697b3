import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkEnv } from '../../src/doctor/env-section.ts';
import { troubles } from './support.ts';

for (const [name, env, expected] of [
  ['plain settings are fine', { LOG_LEVEL: 'info', PUBLIC_KEY_URL: 'https://a/b' }, []],
  ['names that only mention a secret are fine', { TOKEN_TTL: '60', SECRETS_FILE: '/run/x' }, []],
  ['an empty value is no secret', { API_KEY: '' }, []],
  [
    'the token of the sidecar',
    { FLY_AFFINITY_ADMIN_TOKEN: 's3cret-s3cret-s3cret' },
    ['warning: [env] has what looks like a secret: FLY_AFFINITY_ADMIN_TOKEN.'],
  ],
  [
    'a URL with a password, and a key',
    { SESSION_STORE_URL: 'redis://default:s3cret@host:6379', STRIPE_API_KEY: 's3cret' },
    ['warning: [env] has what looks like a secret: SESSION_STORE_URL, STRIPE_API_KEY.'],
  ],
  [
    'headers for a collector, which hold its token',
    {
      FLY_AFFINITY_OTEL_EXPORTER_OTLP_HEADERS: 'Authorization=s3cret',
      OTEL_EXPORTER_OTLP_TRACES_HEADERS: 'x-token=s3cret',
    },
    [
      'warning: [env] has what looks like a secret: FLY_AFFINITY_OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_TRACES_HEADERS.',
    ],
  ],
  ['a URL without a password is fine', { SESSION_STORE_URL: 'redis://host:6379' }, []],
  ['a user for the image to run as', { RUN_AS: '1000:1000' }, []],
  ['root', { RUN_AS: 'root' }, ['error: RUN_AS is "root".']],
  ['the ids of root', { FLY_AFFINITY_RUN_AS: '0:0' }, ['error: FLY_AFFINITY_RUN_AS is "0:0".']],
  ['nobody', { RUN_AS: '65534:65534' }, ['error: RUN_AS is "65534:65534".']],
  ['the name with the prefix wins', { FLY_AFFINITY_RUN_AS: '1000', RUN_AS: 'root' }, []],
] as const) {
  test(`[env]: ${name}`, () => {
    const findings = checkEnv({ env });
    assert.deepEqual(troubles(findings), expected);
    assert.ok(!JSON.stringify(findings).includes('s3cret'));
  });
}
