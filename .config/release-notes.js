/**
 * Prints what the changelog says about a release, and fails if it can't be one:
 *
 *   node .config/release-notes.js v0.2.0 [URL]
 *
 * The tag, package.json, package-lock.json and the changelog have to name the same version. `URL` is the folder of
 * the changelog, for its links.
 */
import { readFile } from 'node:fs/promises';

const CHANGELOG = 'src/docs/changelog.md';

const [tag = '', url] = process.argv.slice(2);
const [manifest, lock, changelog] = await Promise.all(
  ['package.json', 'package-lock.json', CHANGELOG].map((path) => readFile(path, 'utf8')),
);
const { version } = JSON.parse(manifest);
const sections = new Map(
  changelog
    .split(/^## /m)
    .slice(1)
    .map((section) => {
      const [title, ...lines] = section.split('\n');
      return [title.trim(), lines.join('\n').trim()];
    }),
);
const notes = sections.get(version);
const [newest] = [...sections.keys()].filter((title) => title !== 'Unreleased');

const mistakes = [
  tag !== `v${version}` &&
    `the tag is "${tag}", but package.json has ${version}: v${version} is expected`,
  JSON.parse(lock).version !== version &&
    `package-lock.json has ${JSON.parse(lock).version}, but package.json has ${version}: run npm install`,
  !notes && `${CHANGELOG} has no lines under "## ${version}"`,
  notes && newest !== version && `${CHANGELOG} has "## ${newest}" above "## ${version}"`,
  sections.get('Unreleased') &&
    `${CHANGELOG} has lines under "## Unreleased": move them under "## ${version}"`,
].filter(Boolean);

if (mistakes.length > 0) {
  for (const mistake of mistakes) console.error(`release: ${mistake}`);
  process.exitCode = 1;
} else {
  const linked = url
    ? notes.replaceAll(/\]\((?=[\w-]+\.md)/g, `](${url.replace(/\/?$/, '/')}`)
    : notes;
  console.log(linked);
}
