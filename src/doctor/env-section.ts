/** Checks `[env]` of the file, which everyone who sees the file or the Machine's configuration reads. */
import { PREFIX } from '../config/environment.ts';
import type { FlyToml } from './fly-toml.ts';
import { error, warning, type Finding } from './report.ts';

export function checkEnv({ env }: Pick<FlyToml, 'env'>): Finding[] {
  return [...checkSecrets(env), ...checkRunAs(env)];
}

/** Names that end so hold a secret; `PUBLIC_KEY` and `TOKEN_TTL` do not. */
const SECRET_NAME =
  /(^|_)(PASSWORD|PASSWD|SECRET|SECRET_KEY(_BASE)?|TOKEN|API_?KEY|PRIVATE_KEY|ACCESS_KEY|CREDENTIALS|MASTER_KEY|OTLP(_[A-Z]+)?_HEADERS)$/;
const PASSWORD_IN_URL = /^[a-z][a-z0-9+.-]*:\/\/[^/?#]*:[^/?#]*@/i;

/** Never shows a value. */
function checkSecrets(env: FlyToml['env']): Finding[] {
  const names = Object.entries(env)
    .filter(
      ([name, value]) => value !== '' && (SECRET_NAME.test(name) || PASSWORD_IN_URL.test(value)),
    )
    .map(([name]) => name);
  if (names.length === 0) return [];
  return [
    warning(
      `[env] has what looks like a secret: ${names.join(', ')}.`,
      'The file is in your repository, and the values are readable with fly config show.',
      `fly secrets set ${names.map((name) => `${name}=...`).join(' ')}, and remove the lines`,
    ),
  ];
}

/** `start` of the image refuses these. */
const REFUSED = /^(root|nobody|0*|65534)(:.*)?$/;

function checkRunAs(env: FlyToml['env']): Finding[] {
  const name = [`${PREFIX}RUN_AS`, 'RUN_AS'].find((candidate) => (env[candidate] ?? '') !== '');
  const value = name === undefined ? '' : (env[name] ?? '');
  if (name === undefined || !REFUSED.test(value)) return [];
  return [
    error(
      `${name} is ${JSON.stringify(value)}.`,
      'The image does not start as root or as nobody, whose files belong to everybody: it exits with code 78.',
      `${name} = "1000:1000", or leave it out to stay the user of the image`,
    ),
  ];
}
