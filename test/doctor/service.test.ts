import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkServices } from '../../src/doctor/service.ts';
import { advice, configOf, tomlOf, troubles } from './support.ts';

const LIMITS =
  '[http_service.concurrency]\ntype = "requests"\nsoft_limit = 500\nhard_limit = 2000\n';
const IDLE = '[http_service.http_options]\nidle_timeout = 3600\n';
const GOOD = `[http_service]\ninternal_port = 8080\n${LIMITS}${IDLE}`;
const COOKIES = { SESSION_PROTOCOLS: 'cookie:sid' };

const SHORT = 'idle_timeout is not set; the default of Fly Proxy is about one minute.';

for (const [name, text, env, expected] of [
  ['a service that reaches the sidecar is fine', GOOD, {}, []],
  ['the port is 8080 unless set', `[http_service]\n${LIMITS}${IDLE}`, {}, []],
  ['no service', '', {}, ['error: fly.toml has neither [http_service] nor [[services]].']],
  [
    "the app's port",
    GOOD.replace('8080', '3000'),
    {},
    ['error: internal_port of http_service is 3000, where the app listens.'],
  ],
  [
    "the app's port next to the sidecar's",
    `${GOOD}[[services]]\ninternal_port = 3000`,
    {},
    ['error: internal_port of services is 3000, where the app listens.'],
  ],
  [
    "the peers' port",
    `${GOOD}[[services]]\ninternal_port = 8081`,
    {},
    ['error: internal_port of services is 8081, which is PEER_PORT.'],
  ],
  [
    'the admin port',
    GOOD.replace('8080', '9091'),
    {},
    ['error: internal_port of http_service is 9091, which is ADMIN_PORT.'],
  ],
  [
    'another port',
    GOOD,
    { PORT: '8000' },
    ['error: internal_port of http_service is 8080, but PORT of the sidecar is 8000.'],
  ],
  [
    'services that all miss the sidecar',
    GOOD.replaceAll('http_service', 'services')
      .replace('[services]', '[[services]]')
      .replace('8080', '25'),
    {},
    [
      'error: internal_port of services is 25, but PORT of the sidecar is 8080.',
      'error: The service of the sidecar has no port with the http handler.',
      `warning: ${SHORT}`,
    ],
  ],
  ['a second service on another port', `${GOOD}[[services]]\ninternal_port = 25`, {}, []],
  [
    'a service without the http handler',
    `[[services]]\ninternal_port = 8080\n${LIMITS.replace('http_service', 'services')}
     [[services.ports]]\nport = 443\nhandlers = ["tls"]\n[services.ports.http_options]\nidle_timeout = 3600`,
    {},
    ['error: The service of the sidecar has no port with the http handler.'],
  ],
  [
    'a service with the http handler',
    `[[services]]\ninternal_port = 8080\n${LIMITS.replace('http_service', 'services')}
     [[services.ports]]\nhandlers = ["tls", "http"]\n[services.ports.http_options]\nidle_timeout = 3600`,
    {},
    [],
  ],
  ['no idle_timeout, with streams', `[http_service]\n${LIMITS}`, {}, [`warning: ${SHORT}`]],
  ['no idle_timeout, without streams', `[http_service]\n${LIMITS}`, COOKIES, [`note: ${SHORT}`]],
  [
    'a short idle_timeout',
    GOOD.replace('3600', '30'),
    {},
    ['warning: idle_timeout is 30 seconds.'],
  ],
  [
    'no limits',
    `[http_service]\n${IDLE}`,
    {},
    ['warning: The concurrency type is "connections".', 'note: soft_limit is 20 (the default).'],
  ],
  ['a low hard limit', GOOD.replace('2000', '500'), {}, ['warning: hard_limit is 500.']],
  [
    'a hard limit below the soft limit',
    GOOD.replace('2000', '100'),
    {},
    ['error: hard_limit (100) is below soft_limit (500).'],
  ],
  ['a low soft limit', GOOD.replace('500', '25'), {}, ['note: soft_limit is 25.']],
  ['no hard limit', GOOD.replace('hard_limit = 2000', ''), {}, []],
] as const) {
  test(`services: ${name}`, () => {
    assert.deepEqual(troubles(checkServices(tomlOf(text), configOf(env))), expected);
  });
}

for (const port of ['3000', '8000']) {
  test(`init is advised where no request reaches the sidecar, but port ${port}`, () => {
    const toml = tomlOf(GOOD.replace('8080', port));
    const [first = ''] = advice(checkServices(toml, configOf()));
    assert.match(first, /\n {2}internal_port = 8080\nor, .* run fly-affinity init: /);
  });
}

test('the suggested lines resolve the findings', () => {
  const lines = advice(checkServices(tomlOf('[http_service]\n'), configOf()));
  const fixed = tomlOf(`[http_service]\n${[...new Set(lines)].join('\n')}`);
  assert.deepEqual(troubles(checkServices(fixed, configOf())), []);
});
