/** Plans all that `init` does, from the two files; writes nothing. */
import { parseConfig, type Config } from '../config/config.ts';
import { SETTING_NAMES } from '../config/settings.ts';
import type { Change } from '../doctor/change.ts';
import type { ConfigFile } from '../doctor/config-file.ts';
import { checkFlyToml } from '../doctor/diagnose.ts';
import type { FlyToml } from '../doctor/fly-toml.ts';
import { collectFixes } from '../doctor/collect-fixes.ts';
import { groupsServedBy } from '../doctor/process-groups.ts';
import type { Finding } from '../doctor/report.ts';
import { chooseCommands, type CommandPlan } from './commands.ts';
import { parseDockerfile, targetOf, type Dockerfile, type Stage } from './dockerfile.ts';
import { detectFramework } from './frameworks.ts';
import { readImage, type Image } from './image.ts';
import { choosePorts, httpServices, otherHttpServices, type Ports } from './ports.ts';
import { refuse, refuseConfig, refuseImage, type Refusal } from './refusals.ts';
import { chooseStore, type Store, type StoreChoice } from './stores.ts';

export interface InitPlan {
  readonly kind: 'ready';
  readonly changes: readonly Change[];
  readonly dockerfile: Dockerfile;
  readonly stage: Stage;
  readonly image: Image;
  readonly commands: CommandPlan;
  readonly store: StoreChoice['plan'];
  /** What was found, and what is done about it; a sentence each. */
  readonly found: readonly string[];
  /** What a person has to look at. */
  readonly warnings: readonly string[];
}

/** Both files as they were before any `init`. */
export function planInit(
  { toml, values }: ConfigFile,
  dockerfileText: string,
  asked: Store | undefined,
): InitPlan | Refusal {
  const dockerfile = parseDockerfile(dockerfileText);
  const refused = refuseConfig(toml);
  if (refused) return refused;
  const stage = targetOf(dockerfile, toml.build.target);
  if (!stage) return refuse(`The Dockerfile has no stage ${toml.build.target ?? 'at all'}.`);
  const image = readImage(dockerfile, stage);
  const services = httpServices(toml);
  const groups = groupsServedBy(toml, services);
  const appPort = services[0]?.internalPort ?? 0;
  const commands = chooseCommands(toml, groups, image, appPort);
  if (commands.kind === 'refused') return commands;
  const refusedImage = refuseImage(image, commands.hasCommand);
  if (refusedImage) return refusedImage;
  const { canOwnVolume } = commands;
  const store = chooseStore(asked, { toml, groups, canOwnVolume, mentions: image.mentions });
  if (typeof store === 'string') return refuse(`There can be no such store: ${store}.`);
  const ports = choosePorts(toml, appPort, image.exposed);
  const own = [
    ...environmentChanges(ports, store.plan, collisions(toml, image)),
    ...services.map(({ path }) => ({ path: [...path, 'internal_port'], value: ports.public })),
    ...commands.changes,
  ];
  const { changes, findings } = collectFixes(values, own, (changed) =>
    check(changed, store.plan.kind === 'shared'),
  );
  return {
    ...{ kind: 'ready', changes, dockerfile, stage, image, commands, store: store.plan },
    found: [...describe(toml, image, ports, commands), store.why],
    warnings: warningsAbout(toml, image, commands, findings),
  };
}

/** The app uses these names for itself. */
const COMMON: Readonly<Record<string, string>> = { HOST: '::', LOG_LEVEL: 'info' };

function collisions({ env }: FlyToml, image: Image): string[] {
  return Object.keys(COMMON).filter((name) => env[name] !== undefined || image.env.has(name));
}

function environmentChanges(
  ports: Ports,
  store: StoreChoice['plan'],
  colliding: readonly string[],
): Change[] {
  const settings: Record<string, string | undefined> = {
    PORT: String(ports.public),
    UPSTREAM_URL: `http://127.0.0.1:${ports.app}`,
    PEER_PORT: ports.peer === 8081 ? undefined : String(ports.peer),
    ADMIN_PORT: ports.admin === 9091 ? undefined : String(ports.admin),
    ...Object.fromEntries(colliding.map((name) => [name, COMMON[name]])),
    ...storeSettings(store),
  };
  return Object.entries(settings).flatMap(([name, value]) =>
    value === undefined ? [] : [{ path: ['env', `FLY_AFFINITY_${name}`], value }],
  );
}

const DEFAULT_STORE_PATH = '/data/session-store.sqlite';

function storeSettings(store: StoreChoice['plan']): Record<string, string> {
  switch (store.kind) {
    case 'memory':
      return { SESSION_STORE_URL: 'memory:' };
    case 'shared':
      return {};
    default:
      return store.path === DEFAULT_STORE_PATH ? {} : { SESSION_STORE_PATH: store.path };
  }
}

function check(toml: FlyToml, isShared: boolean): Finding[] {
  const config = configOf(toml, isShared);
  if (!config) return [];
  return checkFlyToml(toml, config, {
    isCacheable: config.replayCacheable,
    affinityCookie: config.affinityCookie?.name,
  });
}

/** As on a Machine. `isShared`: the URL of a database will be a secret. */
function configOf({ app, env }: FlyToml, isShared: boolean): Config | undefined {
  const secret = isShared ? { FLY_AFFINITY_SESSION_STORE_URL: 'redis://database' } : {};
  const ofFly = { FLY_MACHINE_ID: 'init', FLY_APP_NAME: app ?? 'app' };
  return parseConfig({ ...ofFly, ...env, ...secret }, () => 0).config;
}

function describe(
  toml: FlyToml,
  image: Image,
  ports: Ports,
  { runAs, wrapped }: CommandPlan,
): string[] {
  const { name } = detectFramework(image, Object.values(toml.commands));
  const user = runAs ?? image.user ?? 'root';
  const names = ['PORT', ...collisions(toml, image)].filter(
    (each) => toml.env[each] !== undefined || image.env.has(each),
  );
  return [
    `Found ${name} on port ${ports.app}, on the image ${image.baseName}, as user ${user}.`,
    `The sidecar takes port ${ports.public}; the app stays on ${ports.app}.`,
    ...(wrapped.length > 0
      ? [`It runs in the process group ${wrapped.join(', ')}; the others stay as they are.`]
      : []),
    ...(names.length > 0
      ? [`The app keeps its own ${names.join(', ')}; the sidecar has FLY_AFFINITY_ names.`]
      : []),
  ];
}

function warningsAbout(
  toml: FlyToml,
  image: Image,
  { note }: CommandPlan,
  findings: readonly Finding[],
): string[] {
  const { warning } = detectFramework(image, Object.values(toml.commands));
  const others = otherHttpServices(toml).map(({ internalPort }) => internalPort);
  const settings = SETTING_NAMES.filter(
    (name) =>
      !(name in COMMON) &&
      name !== 'PORT' &&
      !name.startsWith('FLY_') &&
      (toml.env[name] !== undefined || image.env.has(name)),
  );
  const isUnknownBase = image.base.libc === 'unknown';
  return [
    ...(warning === undefined ? [] : [warning]),
    ...(note === undefined ? [] : [note]),
    ...(others.length > 0
      ? [
          `The service on port ${others.join(', ')} still reaches its app directly: the sidecar serves one port.`,
        ]
      : []),
    ...settings.map(
      (name) =>
        `${name} is set, which is a setting of the sidecar too. If it is meant for the app, set FLY_AFFINITY_${name} for the sidecar.`,
    ),
    ...(isUnknownBase
      ? [
          `Nothing is known of the image ${image.baseName}. It has to be of Debian 12, Ubuntu 22.04 or newer${image.entrypoint ? '' : ', and an ENTRYPOINT of its own would be replaced: check with docker inspect'}.`,
        ]
      : []),
    ...findings.flatMap((finding) =>
      finding.level === 'error' || finding.level === 'warning'
        ? [`${finding.what} ${finding.why}`]
        : [],
    ),
  ];
}
