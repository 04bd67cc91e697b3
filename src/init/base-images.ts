/** What is known of the images that apps are built on: what a copied Node.js needs, and what a Dockerfile inherits. */

export interface BaseImage {
  /** The C library; `unknown` is taken for glibc. */
  readonly libc: 'glibc' | 'musl' | 'unknown';
  /** Why the sidecar can't run in the image; undefined: it can. */
  readonly obstacle: string | undefined;
  /** Whether it has a Node.js that is new enough for the sidecar. */
  readonly hasNode: boolean;
  readonly entrypoint?: readonly string[];
  readonly cmd?: readonly string[];
  /** Undefined: root. */
  readonly user?: string;
}

export function findBase(reference: string): BaseImage {
  const { name, tag } = parseReference(reference);
  const inherited = INHERITED.find(([pattern]) => pattern.test(`${name}:${tag}`))?.[1] ?? {};
  return {
    libc: libcOf(name, tag),
    obstacle: obstacleIn(name, tag),
    hasNode: name === 'node' && isNewNode(tag),
    ...inherited,
  };
}

/** Without the registry of Docker and its `library/`; the tag without a digest. */
function parseReference(reference: string): { readonly name: string; readonly tag: string } {
  const [withoutDigest = ''] = reference.split('@');
  const [, path = '', tag = ''] = /^(.*?)(?::([^/:]*))?$/.exec(withoutDigest) ?? [];
  return { name: path.replace(/^(docker\.io\/)?(library\/)?/, ''), tag: tag.toLowerCase() };
}

const NO_SHELL = 'it has no shell and no C++ library, which Node.js needs';
const TOO_OLD = 'its C library is older than glibc 2.34, which the sidecar needs';

const OBSTACLES: readonly (readonly [RegExp, string])[] = [
  [/^scratch:/, 'it is empty'],
  [/^gcr\.io\/distroless\/|^busybox:|\bchiseled\b/, NO_SHELL],
  [/^(cgr\.dev\/)?chainguard\/(?!.*:.*dev)/, NO_SHELL],
  [/\b(bullseye|buster|stretch|focal|bionic|xenial)\b/, TOO_OLD],
  [/^debian:(8|9|10|11)\b|^ubuntu:(14|16|18|20)\b/, TOO_OLD],
  [/^(amazonlinux:(1|2)$|centos:|rockylinux:8|almalinux:8)/, TOO_OLD],
];

function obstacleIn(name: string, tag: string): string | undefined {
  return OBSTACLES.find(([pattern]) => pattern.test(`${name}:${tag}`))?.[1];
}

const GLIBC =
  /^(debian|ubuntu|node|python|ruby|golang|rust|elixir|erlang|php|nginx|httpd|perl|openjdk|eclipse-temurin|amazoncorretto|maven|gradle|tomcat|swift|rockylinux|almalinux|fedora|amazonlinux|caddy|buildpack-deps|bitnami\/.+|oven\/bun|denoland\/deno|hexpm\/elixir|dunglas\/frankenphp|mcr\.microsoft\.com\/.+|ghcr\.io\/astral-sh\/uv|quay\.io\/jupyter\/.+)$/;

function libcOf(name: string, tag: string): BaseImage['libc'] {
  // The official images of Caddy are Alpine, whatever their tag.
  if (name === 'alpine' || name === 'caddy' || /\balpine/.test(tag)) return 'musl';
  return GLIBC.test(name) ? 'glibc' : 'unknown';
}

const FLOATING = /^(lts|current|latest|krypton)?(-|$)/;

/** As `main.ts` checks it. */
function isNewNode(tag: string): boolean {
  const [, major, minor] = /^(\d+)(?:\.(\d+))?/.exec(tag) ?? [];
  if (major === undefined) return FLOATING.test(tag);
  return Number(major) > 22 || (Number(major) === 22 && Number(minor ?? Infinity) >= 19);
}

type Inherited = Pick<BaseImage, 'entrypoint' | 'cmd' | 'user'>;

/** Images with a command of their own, as `docker inspect` shows it. */
const INHERITED: readonly (readonly [RegExp, Inherited])[] = [
  [/^node:/, { entrypoint: ['docker-entrypoint.sh'] }],
  [/^oven\/bun:/, { entrypoint: ['/usr/local/bin/docker-entrypoint.sh'] }],
  [/^denoland\/deno:/, { entrypoint: ['/tini', '--', 'docker-entrypoint.sh'] }],
  [/^php:.*apache/, { entrypoint: ['docker-php-entrypoint'], cmd: ['apache2-foreground'] }],
  [/^php:.*fpm/, { entrypoint: ['docker-php-entrypoint'], cmd: ['php-fpm'] }],
  [/^php:/, { entrypoint: ['docker-php-entrypoint'] }],
  [
    /^dunglas\/frankenphp:/,
    {
      entrypoint: ['docker-php-entrypoint'],
      cmd: ['--config', '/etc/frankenphp/Caddyfile', '--adapter', 'caddyfile'],
    },
  ],
  [/^nginx:/, { entrypoint: ['/docker-entrypoint.sh'], cmd: ['nginx', '-g', 'daemon off;'] }],
  [/^httpd:/, { cmd: ['httpd-foreground'] }],
  [
    /^caddy:/,
    { cmd: ['caddy', 'run', '--config', '/etc/caddy/Caddyfile', '--adapter', 'caddyfile'] },
  ],
  [/^tomcat:/, { cmd: ['catalina.sh', 'run'] }],
  [/^eclipse-temurin:/, { entrypoint: ['/__cacert_entrypoint.sh'] }],
  [/^bitnami\//, { user: '1001' }],
];
