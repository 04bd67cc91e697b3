/** Values that may be written in more than one way. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../src/config/config.ts';
import { milliseconds } from '../../src/config/parsers.ts';
import type { Setting } from '../../src/config/setting.ts';
import { SETTING_NAMES, SETTINGS } from '../../src/config/settings.ts';

const random = (): number => 0.5;

for (const [text, ms] of [
  ['250ms', 250],
  ['250', 250],
  ['600s', 600_000],
  ['10m', 600_000],
  ['1h', 3_600_000],
  ['1d', 86_400_000],
  ['0', 0],
  ['0s', 0],
  ['00010m', 600_000],
] as const) {
  test(`${text} is ${ms} milliseconds`, () => {
    assert.deepEqual(milliseconds(0)(text), { value: ms });
  });
}

for (const text of [
  ...['', 's', '1.5h', '-1s', '1 h', ' 1h', '1h30m', '10min', '10M', '1e3', '1_000', '0x10'],
  ...['25d', '2147483648', '2147484s', '999999999999999d', '9999999999999999'],
]) {
  test(`${JSON.stringify(text)} is no duration that a timer can wait`, () => {
    const [mistake = ''] = milliseconds(0)(text).mistakes ?? [];
    const range = 'a whole number of milliseconds from 0 to 2147483647';
    const expected = `must be a duration such as 10m, 600s or 250ms, or ${range}, got`;
    assert.equal(mistake, `${expected} ${JSON.stringify(text)}`);
  });
}

test('every setting that is a time takes a unit; all names but one end with _MS', () => {
  const times = SETTING_NAMES.filter((name) => {
    const { parse }: Setting<unknown> = SETTINGS[name];
    return parse('5s').value === 5_000;
  });
  assert.ok(times.length >= 9);
  assert.deepEqual(
    times,
    SETTING_NAMES.filter((name) => name.endsWith('_MS') || name === 'SUSPEND_AFTER'),
  );
});

test('a duration that is too long for its setting is an error', () => {
  const { mistakes = [] } = parseConfig({ DRAIN_TIMEOUT_MS: '5m' }, random);
  assert.match(mistakes.join(), /^DRAIN_TIMEOUT_MS must be .* from 0 to 299000, got "5m"$/);
});

for (const text of ['debug', 'DEBUG', 'Debug']) {
  test(`LOG_LEVEL=${text} is the level debug`, () => {
    assert.equal(parseConfig({ LOG_LEVEL: text }, random).config?.logLevel, 'debug');
  });
}
