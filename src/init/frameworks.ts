/** Names what an app is built with, by its image and its command, and what about it sessions do not survive. */
import type { Image } from './image.ts';

interface Framework {
  readonly name: string;
  /** Why sessions in memory are lost within one Machine; undefined: nothing is known. */
  readonly warning: string | undefined;
}

/** `commands`: of the process groups that the sidecar serves. */
export function detectFramework(image: Image, commands: readonly string[]): Framework {
  const started = [...(image.entrypoint?.words ?? []), ...(image.cmd?.words ?? []), ...commands];
  const text = started.join(' ');
  const [, name = 'an app'] =
    FRAMEWORKS.find(([pattern]) => pattern.test(`${image.baseName}\n${text}`)) ?? [];
  return { name, warning: warnAboutWorkers(text, image.env) };
}

/** The first match names the framework: servers before languages. */
const FRAMEWORKS: readonly (readonly [RegExp, string])[] = [
  [/\bgunicorn\b/, 'Python with gunicorn'],
  [/\b(uvicorn|fastapi)\b/, 'Python with uvicorn'],
  [/\bhypercorn\b/, 'Python with hypercorn'],
  [/\bstreamlit\b/, 'Python with Streamlit'],
  [/\bjupyter\b/, 'Jupyter'],
  [/\b(rails|thrust|puma)\b/, 'Ruby on Rails'],
  [/\bruby\b|\brackup\b/, 'Ruby'],
  [/\b(elixir|hexpm|mix)\b|\/bin\/server\b/, 'Elixir'],
  [/\bfrankenphp\b/, 'PHP with FrankenPHP'],
  [/\b(apache2-foreground|php)\b/, 'PHP'],
  [/\b(dotnet|aspnet)\b/, '.NET'],
  [/\b(java|temurin|openjdk|corretto|tomcat|jar)\b/, 'Java'],
  [/\bnext\b/, 'Node.js with Next.js'],
  [/\bbun\b/, 'Bun'],
  [/\bdeno\b/, 'Deno'],
  [/\b(nginx|httpd)\b/, 'a web server'],
  [/\bcaddy\b/, 'a web server'],
  [/\b(node|npm|yarn|pnpm|tsx)\b/, 'Node.js'],
  [/\b(python3?|flask|uv|poetry)\b/, 'Python'],
];

interface Workers {
  readonly server: RegExp;
  readonly option: RegExp;
  readonly variable: string;
  readonly advice: string;
}

const WORKERS: readonly Workers[] = [
  {
    server: /\bgunicorn\b/,
    option: /\s(?:-w|--workers)[= ]?(\d+)/,
    variable: 'WEB_CONCURRENCY',
    advice: 'one worker with threads (--workers 1 --threads 8)',
  },
  {
    server: /\b(uvicorn|fastapi)\b/,
    option: /\s--workers[= ](\d+)/,
    variable: 'WEB_CONCURRENCY',
    advice: 'one worker (--workers 1)',
  },
  {
    server: /\b(puma|rails|thrust)\b/,
    option: /\s(?:-w|--workers)[= ]?(\d+)/,
    variable: 'WEB_CONCURRENCY',
    advice: 'one process with threads (WEB_CONCURRENCY=0)',
  },
  {
    server: /\bpm2(-runtime)?\b/,
    option: /\s(?:-i|--instances)[= ](\d+|max)/,
    variable: '',
    advice: 'one instance (-i 1)',
  },
];

function warnAboutWorkers(command: string, env: ReadonlyMap<string, string>): string | undefined {
  for (const { server, option, variable, advice } of WORKERS) {
    const [program] = server.exec(command) ?? [];
    if (program === undefined) continue;
    const count = option.exec(command)?.[1] ?? env.get(variable) ?? '1';
    if (count === 'max' || Number(count) > 1) {
      return `${program} starts ${count} worker processes in each Machine. Sessions in the memory of one are unknown to the others, and no proxy can tell them apart: use ${advice}, and more Machines.`;
    }
  }
  return undefined;
}
