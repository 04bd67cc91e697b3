/** An app that is not on the Machine of its sidecar. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig, type Environment } from '../../src/config/config.ts';
import { warnAboutUpstream } from '../../src/config/upstream.ts';

const FLY: Environment = {
  FLY_MACHINE_ID: 'm1',
  FLY_APP_NAME: 'shop',
  FLY_PRIVATE_IP: 'fdaa:0:1:a7b::2',
};

function warningsFor(url: string, env: Environment = { UPSTREAM_URL: url }): readonly string[] {
  const all = { ...FLY, ...env };
  const { config, mistakes } = parseConfig(all, () => 0.5);
  assert.ok(config, mistakes?.join());
  return warnAboutUpstream(config, all);
}

for (const url of [
  ...['http://shop.flycast', 'http://shop.internal:3000', 'http://m2.vm.shop.internal:3000'],
  ...['http://api.example.com', 'http://api.example.com.:80', 'http://8.8.8.8:3000'],
  ...['http://[fdaa:0:1:a7b::3]:3000', 'http://[2606:4700::1111]'],
]) {
  test(`${url} is not this Machine`, () => {
    const { origin } = new URL(url);
    const [warning = '', ...others] = warningsFor(url);
    assert.ok(warning.startsWith(`UPSTREAM_URL is ${origin}, which is not this Machine: `));
    assert.deepEqual(others, []);
  });
}

for (const url of [
  ...['http://127.0.0.1:3000', 'http://localhost:3000', 'http://[::1]:3000', 'http://0.0.0.0:3000'],
  ...['http://fly-local-6pn:3000', 'http://[fdaa:0:1:a7b::2]:3000', 'http://a.localhost:3000'],
  ...['http://m1.vm.shop.internal:3000', 'http://app:3000', 'http://172.17.0.2:3000'],
]) {
  test(`${url} is this Machine, or may be`, () => {
    assert.deepEqual(warningsFor(url), []);
  });
}

test('the warning names the variable that is set', () => {
  const [warning = ''] = warningsFor('', { FLY_AFFINITY_UPSTREAM_URL: 'http://shop.flycast' });
  assert.match(warning, /^FLY_AFFINITY_UPSTREAM_URL is http:\/\/shop\.flycast, /);
});
