/** The examples of the documentation that run within the test's process. */
import { anywhere, besideOwner, inFolder, withSessions, type Files, type Scene } from './scenes.ts';

const APP: Files = {
  'fly.toml': `app = "notes"
primary_region = "cdg"
kill_timeout = "35s"

[http_service]
  internal_port = 8000
  auto_stop_machines = "suspend"

[http_service.concurrency]
  type = "requests"
  soft_limit = 500

[http_service.http_options]
  idle_timeout = 3600

[mounts]
  source = "notes"
  destination = "/data"
`,
  Dockerfile: `FROM python:3.13-slim
COPY . .
EXPOSE 8000
CMD ["python", "server.py"]
`,
};

/** The sidecar is there, and two lines are missing or wrong. */
const WITH_SIDECAR: Files = {
  'fly.toml': `app = "notes"
primary_region = "cdg"

[http_service]
  internal_port = 8080
  auto_stop_machines = "stop"
  min_machines_running = 1

[http_service.concurrency]
  type = "requests"
  soft_limit = 500

[http_service.http_options]
  idle_timeout = 3600

[mounts]
  source = "notes"
  destination = "/data"

[checks.ready]
  port = 9091
  path = "/readyz"

[metrics]
  port = 9091
  path = "/metrics"
`,
};

const FIX = 'fly-affinity doctor --fix --yes';
const SESSION = '3e23e8160039594a33894f6564e1b134';

// prettier-ignore
export const QUICK: ReadonlyMap<string, Scene> = new Map([
  ['fly-affinity help', anywhere],
  ['fly-affinity help version', anywhere],
  ['fly-affinity version', anywhere],
  ['fly-affinity completion fish | head -3', anywhere],
  ['fly-affinity dashboard | head -4', anywhere],
  ['fly-affinity alerts | head -23', anywhere],
  ['fly-affinity init --dry-run', inFolder(APP)],
  ['fly-affinity init --yes', inFolder(APP, ['fly-affinity init --yes'])],
  ['fly-affinity init --remove --yes', inFolder(WITH_SIDECAR, [FIX])],
  ['fly-affinity doctor', inFolder(WITH_SIDECAR)],
  [FIX, inFolder(WITH_SIDECAR)],
  ['fly-affinity sessions list', withSessions()],
  [`fly-affinity sessions get --key ${SESSION}`, withSessions()],
  [`fly-affinity sessions delete --key ${SESSION}`, withSessions()],
  ['fly-affinity sessions export', withSessions(1)],
  ['fly-affinity sessions export sessions.jsonl', withSessions()],
  ['fly-affinity sessions import sessions.jsonl --dry-run', withSessions(1)],
  ["fly-affinity explain -X POST -H 'mcp-session-id: {id}' /mcp", besideOwner],
  ["fly-affinity explain --json -H 'content-length: 1' -H 'content-length: 2' /mcp", besideOwner],
]);
