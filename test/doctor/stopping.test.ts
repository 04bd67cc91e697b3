import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkStopping } from '../../src/doctor/stopping.ts';
import { advice, configOf, tomlOf, troubles } from './support.ts';

const TIME = 'kill_timeout = "35s"\n';
const service = (lines: string): string => `${TIME}[http_service]\n${lines}\n`;

for (const [name, text, env, expected] of [
  ['more time than a drain takes is fine', TIME, {}, []],
  ['seconds may be a number', 'kill_timeout = 35', {}, []],
  ['seconds may be digits', 'kill_timeout = "35"', {}, []],
  ['minutes are read', 'kill_timeout = "1m30s"', { DRAIN_TIMEOUT_MS: '80000' }, []],
  [
    'a short drain fits into the default',
    '',
    { DRAIN_TIMEOUT_MS: '1000', STOP_TIMEOUT_MS: '1000' },
    [],
  ],
  [
    'the default is shorter than a drain',
    '',
    {},
    ['error: kill_timeout is not set (default 5 s), but DRAIN_TIMEOUT_MS is 25000.'],
  ],
  [
    'as much time as a drain takes',
    'kill_timeout = 25',
    {},
    ['error: kill_timeout is 25000 ms, but DRAIN_TIMEOUT_MS is 25000.'],
  ],
  [
    'hardly more time than a drain takes',
    'kill_timeout = 26',
    {},
    ['warning: kill_timeout is 26000 ms, but DRAIN_TIMEOUT_MS is 25000 and STOP_TIMEOUT_MS 5000.'],
  ],
  [
    'time for the drain, but not for the app to exit',
    'kill_timeout = "30s"',
    {},
    ['warning: kill_timeout is 30000 ms, but DRAIN_TIMEOUT_MS is 25000 and STOP_TIMEOUT_MS 5000.'],
  ],
  ['an app that exits at once', 'kill_timeout = "30s"', { STOP_TIMEOUT_MS: '1000' }, []],
  ['more than Fly.io waits', 'kill_timeout = "10m"', {}, ['warning: kill_timeout is 600000 ms.']],
  ['no duration', 'kill_timeout = "soon"', {}, ['error: kill_timeout is not a duration.']],
  ['a signal that drains', `kill_signal = "SIGTERM"\n${TIME}`, {}, []],
  [
    'a signal that does not drain',
    `kill_signal = "SIGQUIT"\n${TIME}`,
    {},
    ['error: kill_signal is "SIGQUIT".'],
  ],
  ['idle Machines that keep running', service('auto_stop_machines = "off"'), {}, []],
  [
    'a Machine that suspends itself',
    service('auto_stop_machines = "off"\nauto_start_machines = true'),
    { SUSPEND_AFTER: '5m' },
    [],
  ],
  [
    'a Machine that suspends itself, and that nothing wakes',
    service('auto_start_machines = false'),
    { SUSPEND_AFTER: '5m' },
    ['error: SUSPEND_AFTER is set, but auto_start_machines is false.'],
  ],
  [
    'a Machine that suspends itself, beside Fly.io',
    service('auto_stop_machines = "suspend"'),
    { SUSPEND_AFTER: '5m' },
    ['warning: auto_stop_machines is "suspend", and SUSPEND_AFTER is set.'],
  ],
  [
    'a Machine that is too large to suspend itself',
    `${service('auto_stop_machines = "off"')}[[vm]]\nmemory = "4gb"\n`,
    { SUSPEND_AFTER: '5m' },
    ['warning: SUSPEND_AFTER is set, but a Machine has 4096 MB of memory.'],
  ],
  [
    'idle Machines that keep running, in the old syntax',
    service('auto_stop_machines = false'),
    {},
    [],
  ],
  [
    'idle Machines that are suspended',
    service('auto_stop_machines = "suspend"\nmin_machines_running = 1'),
    {},
    [],
  ],
  [
    'idle Machines that are suspended and count as gone',
    service('auto_stop_machines = "suspend"\nmin_machines_running = 1'),
    { OWNER_STOPPED: 'gone' },
    ['error: OWNER_STOPPED is gone, but auto_stop_machines is "suspend".'],
  ],
  [
    'idle Machines that are stopped and count as gone',
    service('auto_stop_machines = "stop"\nmin_machines_running = 1'),
    { OWNER_STOPPED: 'gone' },
    ['warning: auto_stop_machines is "stop".'],
  ],
  [
    'idle Machines that are stopped',
    service('auto_stop_machines = "stop"\nmin_machines_running = 1'),
    {},
    ['warning: auto_stop_machines is "stop".'],
  ],
  [
    'idle Machines that are stopped, in the old syntax',
    service('auto_stop_machines = true\nmin_machines_running = 1'),
    {},
    ['warning: auto_stop_machines is "stop".'],
  ],
  [
    'Machines that never start again',
    service(
      'auto_stop_machines = "suspend"\nauto_start_machines = false\nmin_machines_running = 1',
    ),
    {},
    ['error: auto_stop_machines is "suspend", but auto_start_machines is false.'],
  ],
  [
    'Machines too large to suspend',
    service('auto_stop_machines = "suspend"\nmin_machines_running = 1\n[[vm]]\nmemory = "4gb"'),
    {},
    ['warning: auto_stop_machines is "suspend", but a Machine has 4096 MB of memory.'],
  ],
  [
    'Machines too large to suspend, by the name of their size',
    service(
      'auto_stop_machines = "suspend"\nmin_machines_running = 1\n[[vm]]\nsize = "performance-2x"',
    ),
    {},
    ['warning: auto_stop_machines is "suspend", but a Machine has 4096 MB of memory.'],
  ],
  [
    'a larger Machine of another group',
    service(
      'auto_stop_machines = "suspend"\nmin_machines_running = 1\nprocesses = ["web"]\n[processes]\nweb = ""\njobs = ""\n[[vm]]\nmemory = "4gb"\nprocesses = ["jobs"]',
    ),
    {},
    [],
  ],
  [
    'Machines with swap',
    `swap_size_mb = 512\n${service('auto_stop_machines = "suspend"\nmin_machines_running = 1')}`,
    {},
    ['warning: auto_stop_machines is "suspend", but swap_size_mb is 512.'],
  ],
  [
    'Machines with a GPU',
    service('auto_stop_machines = "suspend"\nmin_machines_running = 1\n[[vm]]\ngpu_kind = "l40s"'),
    {},
    ['warning: auto_stop_machines is "suspend", but a Machine has a GPU.'],
  ],
  [
    'checks a service even if it misses the sidecar',
    service('internal_port = 3000\nauto_stop_machines = "stop"\nmin_machines_running = 1'),
    {},
    ['warning: auto_stop_machines is "stop".'],
  ],
  [
    'no minimum of running Machines',
    service('auto_stop_machines = "suspend"'),
    {},
    ['note: min_machines_running is 0.'],
  ],
  [
    'ignores the settings of another service',
    `${service('auto_stop_machines = "off"')}[[services]]\ninternal_port = 25\nauto_stop_machines = "stop"`,
    {},
    [],
  ],
] as const) {
  test(`stopping: ${name}`, () => {
    assert.deepEqual(troubles(checkStopping(tomlOf(text), configOf(env))), expected);
  });
}

test('suggests a shorter drain if kill_timeout cannot be longer', () => {
  const [lines = ''] = advice(checkStopping(tomlOf(''), configOf({ DRAIN_TIMEOUT_MS: '298000' })));
  assert.equal(lines, 'kill_timeout = "300s"\nand DRAIN_TIMEOUT_MS=290000');
});
