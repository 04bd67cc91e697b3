/**
 * Every setting there is, one row each (those of tracing are in `otel-settings.ts`): the parser, `--help` and the table in `docs/settings.md` come from here.
 * No other file knows the name of an environment variable.
 */
import type { Protocol } from '../protocols/protocol.ts';
import { parseProtocols, PRESET_NAMES } from '../protocols/setting.ts';
import { LOG_FORMATS, LOG_LEVELS } from '../observability/log.ts';
import {
  affinityCookie,
  boolean,
  dialedPort,
  dnsServer,
  filePath,
  fleet,
  host,
  httpOrigin,
  integer,
  listeningPort,
  machineId,
  matching,
  milliseconds,
  oneOf,
  oneOfInAnyCase,
  secret,
  storeUrl,
  type Parse,
} from './parsers.ts';
import { OTEL_SETTINGS } from './otel-settings.ts';
import { optional, setByFly, setting, type Setting } from './setting.ts';

const DAY_MS = 86_400_000;
const YEAR_MS = 365 * DAY_MS;
/** Fly kills a Machine that long after its signal at the latest (`kill_timeout`). */
const MAX_KILL_TIMEOUT_MS = 300_000;
/** What Fly Proxy can replay at most. */
const MAX_REPLAYED_BODY_BYTES = 1_000_000;

const protocols: Parse<readonly Protocol[]> = (text) => {
  const parsed = parseProtocols(text);
  return parsed.mistakes ? parsed : { value: parsed.protocols };
};
const appName = matching(/^[a-z0-9][a-z0-9-]{0,62}$/, 'the name of a Fly app');
const namespace = matching(
  /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/,
  'a name of letters, digits, ".", "-" and "_"',
);
const hostHeader = matching(
  /^[A-Za-z0-9.-]{1,253}(?::\d{1,5})?$/,
  'a host name, with a port or without',
);
const urlPath = matching(/^\/[!"$-~]*$/, 'a path that begins with "/"');
const label = matching(/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/, 'a name of letters, digits, - and _');

export const SETTINGS = {
  PORT: setting('8080', listeningPort, 'Port for the edge. 0 takes a free one.'),
  HOST: setting('::', host, 'Address or name on which all three listeners listen.'),
  PEER_PORT: setting('8081', listeningPort, 'Port for the sidecars of the other Machines.'),
  PEER_DIAL_PORT: optional(
    dialedPort,
    'Port to which connections to other sidecars go.',
    'PEER_PORT',
  ),
  ADMIN_PORT: setting(
    '9091',
    listeningPort,
    'Port for the status page, `/status`, `/metrics`, `/livez` and `/readyz`.',
  ),
  ADMIN_TOKEN: optional(
    secret,
    'Opens `/sessions`, `/drain` and `/explain` on the admin port, and the detail of its other pages, to those who send it as a bearer token. At least 16 characters.',
  ),
  UPSTREAM_URL: setting('http://127.0.0.1:3000', httpOrigin, 'Where the app listens.'),
  UPSTREAM_HEAD_TIMEOUT_MS: setting(
    '0',
    milliseconds(0),
    "Timeout for the head of the app's response; 0: none, as tool calls run for minutes.",
  ),
  UPSTREAM_CHECK_PATH: optional(
    urlPath,
    'Path of a health check of the app: after two responses in a row that are not 2xx, new sessions go to other Machines until one is 2xx.',
  ),
  UPSTREAM_CHECK_HOST: optional(
    hostHeader,
    '`Host` of that check, for an app that checks it. The check has `X-Forwarded-Proto: https`.',
    '`FLY_APP_NAME`.fly.dev',
  ),
  UPSTREAM_CHECK_INTERVAL_MS: setting(
    '5000',
    milliseconds(100, 3_600_000),
    'Interval of that check; one second while the app is down.',
  ),
  MAX_CONNECTIONS: setting(
    '10000',
    integer(1, 1_000_000),
    'Connections of clients, and as many to the app; one more gets 503.',
  ),
  MAX_HEAD_BYTES: setting(
    '32768',
    integer(4_096, 1_048_576, ' of bytes'),
    'Longest head of a request; a longer one gets 431. The head of a response may have 65536 bytes, or this many if it is more.',
  ),
  MAX_BUFFERED_BYTES: setting(
    '67108864',
    integer(1_048_576, 17_179_869_184, ' of bytes'),
    'How much all connections together may buffer for slow clients and a slow app; beyond it new requests get 503.',
  ),
  STALL_TIMEOUT_MS: setting(
    '300000',
    milliseconds(0, DAY_MS),
    "How long a request's body may pause, and how long a client may not read while its response waits; 0: no limit. Idle streams and WebSockets are not closed.",
  ),
  SESSION_PROTOCOLS: setting(
    'auto',
    protocols,
    `Which protocols carry session ids, in the order in which ids are looked for: ${PRESET_NAMES.map((name) => `\`${name}\``).join(', ')}. \`auto\` recognizes most of them. Ids that the app mints: \`path:REGEX from json:/id,location\`.`,
  ),
  SESSION_ID_HINTS: setting(
    'true',
    boolean,
    'Whether ids that the app mints reach the client with `~<machine>` appended.',
  ),
  AFFINITY_COOKIE: optional(
    affinityCookie,
    'Name of a cookie that keeps requests without a session id on one Machine: for browsers. Unset: with `auto` or `jupyter`, `fly-affinity` beside session cookies of the app, else none. For pages in frames of other sites: `NAME; SameSite=None; Partitioned`.',
  ),
  SESSION_STORE_ENABLED: setting(
    'true',
    boolean,
    'Whether bindings are stored at all. If not, owners are found by hints and peers only.',
  ),
  SESSION_STORE_PATH: setting(
    '/data/session-store.sqlite',
    filePath,
    'SQLite file, on a volume. `:memory:` keeps nothing on disk.',
  ),
  SESSION_STORE_URL: optional(
    storeUrl,
    'Database that the fleet shares, in place of the file: `redis://`, `rediss://`, `postgres://`; or `memory:`.',
  ),
  SESSION_STORE_NAMESPACE: optional(
    namespace,
    'Separates fleets that share one database.',
    'FLY_APP_NAME',
  ),
  SESSION_STORE_TTL_MS: setting(
    '600000',
    milliseconds(1, YEAR_MS),
    'How long a session that is not used stays bound.',
  ),
  SESSION_STORE_CLEANUP_INTERVAL_MS: setting(
    '60000',
    milliseconds(0),
    'How often expired bindings are removed; 0: never.',
  ),
  SESSION_STORE_RETRY_COUNT: setting(
    '3',
    integer(0, 20),
    'How often a store operation is tried again after a passing failure.',
  ),
  SESSION_STORE_RETRY_DELAY_MS: setting(
    '100',
    milliseconds(0, 60_000),
    'Wait before the first such try; it doubles with each.',
  ),
  SESSION_STORE_MAX_SESSIONS: setting(
    '1000000',
    integer(1, 100_000_000),
    'Bindings held at most. The least recently used go first.',
  ),
  SESSION_MAX_AGE_MS: setting(
    '0',
    milliseconds(0, YEAR_MS),
    'Longest life of a binding, however often it is used; 0: no limit.',
  ),
  MAX_SESSIONS_PER_MACHINE: setting(
    '0',
    integer(0, 10_000_000),
    'A Machine with so many sessions is full: new ones go to other Machines, unless all are full; 0: no limit.',
  ),
  FLEET: setting(
    'auto',
    fleet,
    "Who the other Machines are. `auto`: from Fly's DNS if `FLY_APP_NAME` is set, else `off`; or a list `id@host:peer-port,...`.",
  ),
  FLEET_RESOLVER: optional(
    dnsServer,
    'DNS server that knows the fleet, as `address:port`.',
    "the system's",
  ),
  FLEET_GONE_AFTER_MS: setting(
    '60000',
    milliseconds(0, DAY_MS),
    'With a list in `FLEET`: a Machine that refuses connections for so long counts as gone for good, until it accepts one; 0: never.',
  ),
  PLACEMENT: optional(
    oneOf(['region', 'fleet']),
    "Machines among which a new session of a client's own id is placed: this region's first, or all.",
    '`fleet`; `region` for ids that apps mint too',
  ),
  UNKNOWN_SESSION: setting(
    'serve',
    oneOf(['serve', 'reject']),
    'What happens to an id that no Machine knows: the app here decides, or the sidecar responds with 404.',
  ),
  OWNER_GONE: setting(
    'reject',
    oneOf(['reject', 'adopt']),
    "What happens to an app's id whose Machine is gone for good: 404, or the app here decides.",
  ),
  OWNER_STOPPED: setting(
    'wake',
    oneOf(['wake', 'gone']),
    'What happens to a session whose Machine is stopped or suspended: a replay wakes it, or it counts as gone for good.',
  ),
  REPLAY_TIMEOUT_MS: setting(
    '10000',
    milliseconds(1, MAX_KILL_TIMEOUT_MS),
    'How long the edge tries to deliver a replay to an owner that is not running before it returns the request; 3 s for one that runs.',
  ),
  REPLAY_CACHEABLE: setting(
    'false',
    boolean,
    "Whether Fly's `replay_cache` may cache replays to Machines that run: they then have no timeout and no fallback.",
  ),
  REPLAY_MAX_BODY_BYTES: setting(
    '1000000',
    integer(0, MAX_REPLAYED_BODY_BYTES, ' of bytes'),
    'Larger requests are forwarded over the private network instead of replayed.',
  ),
  DRAIN_TIMEOUT_MS: setting(
    '25000',
    milliseconds(0, MAX_KILL_TIMEOUT_MS - 1000),
    'Longest drain after the first signal. It ends earlier, when no request is open and none has come for a second. Keep it below `kill_timeout` of `fly.toml`.',
  ),
  START_TIMEOUT_MS: setting(
    '30000',
    milliseconds(0, MAX_KILL_TIMEOUT_MS),
    'With `run`: how long requests wait for the app to accept its first connection. Those that exceed the memory for it (half of `MAX_BUFFERED_BYTES`) get 503.',
  ),
  STOP_TIMEOUT_MS: setting(
    '5000',
    milliseconds(0, MAX_KILL_TIMEOUT_MS),
    'With `run`: how long the app and whatever it has started may take to exit after a signal; what is left is killed. It begins after the drain: `kill_timeout` has to cover both.',
  ),
  SUSPEND_AFTER: setting(
    '0',
    milliseconds(0),
    'This Machine suspends itself once no request is open and none has come for so long; its sessions survive, and the next request wakes it; 0: never.',
  ),
  SUSPEND_SOCKET: setting(
    '/.fly/api',
    filePath,
    "With `SUSPEND_AFTER`: the Unix socket of Fly's Machines API on this Machine.",
  ),
  LOG_LEVEL: setting('info', oneOfInAnyCase(LOG_LEVELS), 'Least severe lines that are logged.'),
  LOG_FORMAT: optional(
    oneOf(LOG_FORMATS),
    'How log lines look. `json`: levels as numbers, the time in ms; `json-names`: levels by name, the time in ISO 8601; `text`: for people.',
    '`text` on a terminal, else `json`',
  ),
  ...OTEL_SETTINGS,
  FLY_MACHINE_ID: setByFly(
    machineId,
    "This Machine's id. A generated one is kept beside the store file, as `SESSION_STORE_PATH`.machine.",
    'generated',
  ),
  FLY_ALLOC_ID: setByFly(text, 'Older name of the same; used if `FLY_MACHINE_ID` is unset.'),
  FLY_APP_NAME: setByFly(appName, 'Whose Machines are the fleet.'),
  FLY_REGION: setByFly(label, "This Machine's region."),
  FLY_PROCESS_GROUP: setByFly(label, 'Which of the Machines of the app are the fleet.'),
} as const satisfies Record<string, Setting<unknown>>;

export type SettingName = keyof typeof SETTINGS;
export const SETTING_NAMES = Object.keys(SETTINGS) as readonly SettingName[];

/** What the parsers have made of the environment. */
export type SettingValues = {
  readonly [Name in SettingName]: (typeof SETTINGS)[Name] extends Setting<infer Value>
    ? Value
    : never;
};

function text(value: string): { readonly value: string } {
  return { value };
}
