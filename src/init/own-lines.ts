/**
 * Which lines of a block `init` wrote itself. What people have written there since then is theirs: a table can
 * stand only once in a file, so they have no other place for it.
 */

const SETTINGS =
  /^FLY_AFFINITY_(PORT|UPSTREAM_URL|PEER_PORT|ADMIN_PORT|SESSION_STORE_PATH) = |^FLY_AFFINITY_(HOST = "::"|LOG_LEVEL = "info"|SESSION_STORE_URL = "memory:")$/;

/** With the values that `init` writes: another value is a person's. */
const OWN: readonly RegExp[] = [
  SETTINGS,
  /^(source = "sessions"|destination = "(\/data|\/var\/lib\/fly-affinity)"|initial_size = "1gb")$/,
  /^(idle_timeout = 3600|type = "requests"|soft_limit = 500|hard_limit = 2000|strategy = "rolling")$/,
  /^(type = "http"|port = \d+|method = "get"|path = "\/(readyz|metrics)"|processes = \[.*\])$/,
  /^(grace_period = "10s"|interval = "10s"|timeout = "2s")$/,
  // The Dockerfile.
  /^FROM node:\d+-(slim|alpine) AS fly-affinity$/,
  /^RUN npm install --global --ignore-scripts fly-affinity@/,
  /^&& (mv|cp|mkdir) .*\/opt\/fly-affinity/,
  /^COPY --from=fly-affinity \/opt\/fly-affinity /,
  /^(USER \S+|RUN apk add --no-cache libstdc\+\+( setpriv)?|ENV FLY_AFFINITY_RUN_AS=\S+)$/,
  /^ENTRYPOINT \["\/opt\/fly-affinity\/start", |^CMD \[.*\]$/,
  // Comments, and lines between tables.
  /^$|^# (The settings of the sidecar|The session store survives|Of the sidecar\. Not of|In seconds\. Fly Proxy cuts|An open stream counts|One Machine after the other|Root hands over the store)/,
];

const HEADER = /^\s*\[.*\]\s*$/;
const ENV_HEADER = /^\s*\[env\]\s*$/;

/** What of the lines of a block people have written: of `[env]` their lines, of other tables the whole of it. */
export function linesOfPeople(block: readonly string[]): string[] {
  return sectionsOf(block).flatMap(([header, ...lines]) => {
    if (header === undefined) return [];
    if (!HEADER.test(header)) return [header, ...lines].filter((line) => !isOwn(line));
    const theirs = lines.filter((line) => !isOwn(line));
    if (theirs.length === 0) return [];
    return ENV_HEADER.test(header) ? [header, ...theirs] : [header, ...lines];
  });
}

function isOwn(line: string): boolean {
  return OWN.some((pattern) => pattern.test(line.trim()));
}

/** Each begins with its header, if it has one. */
function sectionsOf(lines: readonly string[]): string[][] {
  const sections: string[][] = [[]];
  for (const line of lines) {
    if (HEADER.test(line)) sections.push([line]);
    else sections.at(-1)?.push(line);
  }
  return sections;
}
