/**
 * nginx as a candidate: one worker, keep-alive connections to the app, a log line per request in a
 * file, and its defaults for everything else.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { findProgram, type Needed } from '../support/needed.ts';
import { SMALL_PATH, STREAM_PATH } from './answers.ts';
import { startPinnedProgram, type PinnedProcess } from './pinned.ts';
import { untilListening } from './until-listening.ts';

/** Debian keeps it out of the PATH of users other than root. */
const DIRECTORIES = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin'];

export const neededForNginx: Needed<string> = {
  what: 'nginx',
  found: findProgram(['nginx'], DIRECTORIES),
  missing: 'nginx on the PATH or in /usr/sbin',
  howToGet: 'apt-get install nginx-light',
};

interface NginxOptions {
  /** The path of nginx, as in {@link neededForNginx}. */
  readonly program: string;
  /** The directory of its files, all of which are removed when it is stopped. */
  readonly directory: string;
  readonly port: number;
  readonly appPort: number;
}

/** Resolves with the worker, which does all of the work, once it has responded. */
export async function startNginx(options: NginxOptions): Promise<PinnedProcess> {
  const { program, directory, port } = options;
  mkdirSync(directory);
  const configPath = join(directory, 'nginx.conf');
  writeFileSync(configPath, configOf(options));
  // The prefix ends with a slash: relative paths are appended to it.
  const command = [program, '-p', `${directory}/`, '-c', configPath, '-e', 'stderr'];
  const master = startPinnedProgram('candidate', command);
  const stop = async (): Promise<void> => {
    await master.stop();
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await untilResponding(port, master);
  } catch (error) {
    await stop();
    throw error;
  }
  return { ...master, pid: firstChildOf(master.pid) ?? master.pid, stop };
}

/** The master listens before there is a worker. */
async function untilResponding(port: number, master: PinnedProcess): Promise<void> {
  await untilListening(port, master);
  const response = await fetch(`http://127.0.0.1:${port}${SMALL_PATH}`);
  await response.arrayBuffer();
}

/** Undefined where there is no Linux `/proc`. */
function firstChildOf(pid: number): number | undefined {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    return children === '' ? undefined : Number(children.split(' ')[0]);
  } catch {
    return undefined;
  }
}

/** The fields of the sidecar's own log line. */
const LOG_FORMAT =
  '{"level":30,"time":$msec,"machine":"m1","requestId":"$request_id","method":"$request_method",' +
  '"path":"$uri","session":"$http_mcp_session_id","decision":"local","why":"bound","owner":"m1",' +
  '"status":$status,"ms":$request_time,"msg":"request"}';

/** A connection must not be closed because it has served many requests. */
const UNLIMITED = 1_000_000_000;

function configOf({ port, appPort }: NginxOptions): string {
  return `
${process.getuid?.() === 0 ? 'user root;' : ''}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events { worker_connections 8192; }
http {
  log_format request escape=json '${LOG_FORMAT}';
  access_log access.log request buffer=64k flush=1s;
  client_body_temp_path client-body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  keepalive_requests ${UNLIMITED};
  map $http_upgrade $connection_header { default upgrade; '' ''; }
  upstream app {
    server 127.0.0.1:${appPort};
    keepalive 128;
    keepalive_requests ${UNLIMITED};
  }
  server {
    listen 127.0.0.1:${port} backlog=1024;
    proxy_http_version 1.1;
    proxy_set_header Connection $connection_header;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    location / { proxy_pass http://app; }
    location = ${STREAM_PATH} { proxy_pass http://app; proxy_buffering off; }
  }
}
`;
}
