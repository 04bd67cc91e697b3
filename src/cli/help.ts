/** What `--help` says, and the table in `docs/settings.md`: both come from the table of settings. */
import { SETTING_NAMES, SETTINGS, type Setting } from '../config/settings.ts';

const USAGE = `fly-affinity: brings a session's next request to the Machine that has the session.

Usage
  fly-affinity [serve]            the sidecar, in front of the app at UPSTREAM_URL
  fly-affinity run -- CMD ARGS    the same, and starts the app as a child, with PORT set to
                                  UPSTREAM_URL's port. Opens its own port when the app's answers.
                                  The first signal drains and then reaches the app, the second
                                  at once. Ends with the app's exit code.
  fly-affinity simulate [--machines 3] [--port 8080] [--spread round-robin|random|never-same]
                        [-- CMD ARGS]
                                  several Machines behind a simulated Fly Proxy, on this computer
  fly-affinity sessions list|get|delete|export|import
                                  looks at sessions, and moves them to another store
  fly-affinity doctor [--config fly.toml] [--json]
                                  says what is wrong with settings, fly.toml and Machine, and why
  fly-affinity --help | --version

Settings are environment variables; an empty one counts as unset.
`;

export function helpText(): string {
  const rows = SETTING_NAMES.map((name) => {
    const { shownFallback, summary }: Setting<unknown> = SETTINGS[name];
    return `  ${name} (${shownFallback})\n      ${plain(summary)}\n`;
  });
  return `${USAGE}\n${rows.join('')}`;
}

/** Markdown, as it stands in `docs/settings.md` between its two markers. */
export function settingsTable(): string {
  const rows = SETTING_NAMES.map((name) => {
    const { fallback, shownFallback, summary, isSetByFly }: Setting<unknown> = SETTINGS[name];
    const shown = fallback === undefined ? shownFallback : `\`${fallback}\``;
    return `| \`${name}\` | ${shown} | ${summary}${isSetByFly ? ' Set by Fly.io.' : ''} |`;
  });
  return ['| variable | default | meaning |', '| --- | --- | --- |', ...rows].join('\n');
}

function plain(markdown: string): string {
  return markdown.replaceAll('`', '');
}
