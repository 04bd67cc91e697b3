/** The status page as HTML, from the same {@link Status} that `/status` returns. */
import { formatDuration } from '../duration.ts';
import { html, Html } from './html.ts';
import type { Access } from './router.ts';
import {
  decisionsCard,
  eventsCard,
  protocolsCard,
  sessionEventsCard,
  storeCard,
} from './status-page-cards.ts';
import { sumOf } from '../observability/metrics.ts';
import { formatCount, formatRate, formatTime } from './status-page-format.ts';
import { problemsOf } from './status-problems.ts';
import type { Status } from './status.ts';

export interface PageAssets {
  readonly css: string;
  readonly script: string;
}

interface PageOptions {
  readonly status: Status;
  readonly assets: PageAssets;
  /** Undefined: there is no `ADMIN_TOKEN`. */
  readonly access: Access | undefined;
  /** Of a look-up by the form, without JavaScript. */
  readonly result: string | undefined;
}

const ICON =
  "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 26 26'><circle cx='5' cy='13' r='4' fill='%236b5ce0'/><path d='M11 9c4-5 8-5 11-5M11 13h11M11 17c4 5 8 5 11 5' fill='none' stroke='%236b5ce0' stroke-width='2.6' stroke-linecap='round'/></svg>";

export function renderPage({ status, assets, access, result }: PageOptions): string {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>${status.machine} · fly-affinity</title>
        <link rel="icon" href="${ICON}" />
        ${exactly('style', assets.css)}
      </head>
      <body>
        <main data-access="${access ?? 'no-token-set'}">
          ${head(status)} ${problems(status)} ${tiles(status)} ${fleet(status)}
          <div class="cards">
            <div class="column">
              ${decisionsCard(status)}${storeCard(status)}${lookup(access, result)}
            </div>
            <div class="column">
              ${protocolsCard(status)}${eventsCard(status)}${sessionEventsCard(status)}
            </div>
          </div>
          <footer>
            fly-affinity ${status.version} · counts are those of this Machine since its start ·
            <a href="/status">JSON</a> · <a href="/metrics">metrics</a>
          </footer>
        </main>
        ${exactly('script', assets.script)}
      </body>
    </html> `.text;
}

/** The hash in the policy is that of all between the tags. */
function exactly(tag: 'style' | 'script', content: string): Html {
  return new Html(`<${tag}>${content}</${tag}>`);
}

const LOGO = html`<svg class="logo" viewBox="0 0 26 26" aria-hidden="true">
  <circle cx="5" cy="13" r="4" />
  <path d="M11 9c4-5 8-5 11-5M11 13h11M11 17c4 5 8 5 11 5" />
</svg>`;

function head(status: Status): Html {
  const { machine, app, region, processGroup, startedAt, now, detail, sleep } = status;
  const facts = [
    app && `app ${app}`,
    region && `region ${region}`,
    processGroup && `process group ${processGroup}`,
    `up ${formatDuration(now - startedAt)}`,
    sleep && `unused for ${formatDuration(sleep.idleMs)}, suspended ${sleep.suspended} times`,
    detail && `in front of ${detail.upstream}`,
  ];
  return html`<header class="head">
    <h1>${LOGO}<span class="id">${machine}</span></h1>
    ${statePill(status)}
    <p class="live" role="status" data-keep>At ${formatTime(now)} UTC. <a href="/">Reload</a></p>
    <p class="facts">${facts.filter(Boolean).join(' · ')}</p>
  </header>`;
}

function statePill({ ready, reason, upstream }: Status): Html {
  if (!ready) return html`<span class="pill warn">${reason ?? 'not ready'}</span>`;
  if (upstream?.state === 'down') return html`<span class="pill bad">app down</span>`;
  return html`<span class="pill good">ready</span>`;
}

function problems(status: Status): Html {
  const found = problemsOf(status);
  const items = found.map(({ level, text }) => html`<li class="${level}">${text}</li>`);
  const hidden = items.length === 0 && html` hidden`;
  return html`<ul class="problems" aria-label="Problems" ${hidden}>
    ${items}
  </ul>`;
}

function tiles(status: Status): Html {
  const { requests, sessions, store, machine } = status;
  const { perSecond, open, openStreams, replaysFailed, lost, unavailable } = requests;
  const own = sessions.byMachine && (sessions.byMachine[machine] ?? 0);
  const total = sumOf(requests.decisions);
  const streams = new Map(openStreams.map(({ values: [kind], count }) => [kind, count]));
  const depth = store.writeBack?.depth ?? 0;
  const ageMs = store.writeBack?.ageMs ?? 0;
  const notServed = sumOf(lost) + sumOf(unavailable);
  return html`<dl class="tiles">
    ${tile('Own sessions', own === undefined ? '…' : formatCount(own), limitOf(sessions.limit))}
    ${tile('Requests per second', perSecond === undefined ? '…' : formatRate(perSecond), `${formatCount(total)} since the start`)}
    ${tile('In flight', formatCount(open), `${streams.get('http') ?? 0} streams, ${streams.get('websocket') ?? 0} sockets`)}
    ${tile('Sessions not served', formatCount(notServed), `${sumOf(lost)} lost, ${sumOf(unavailable)} out of reach`, notServed > 0)}
    ${tile('Replays that failed', formatCount(sumOf(replaysFailed)), reasonsOf(replaysFailed))}
    ${tile('Store backlog', formatCount(depth), depth > 0 ? `oldest ${formatDuration(ageMs)}` : 'all written', depth > 0)}
  </dl>`;
}

function tile(name: string, figure: string, below: string, isBad = false): Html {
  return html`<div class="tile${isBad && ' bad'}">
    <dt>${name}</dt>
    <dd class="figure">${figure}</dd>
    <dd class="below">${below}</dd>
  </div>`;
}

function limitOf(limit: number): string {
  return limit === 0 ? 'no limit' : `of ${formatCount(limit)} at most`;
}

function reasonsOf(samples: Status['requests']['replaysFailed']): string {
  const counted = samples.filter(({ count }) => count > 0);
  const texts = counted.map(
    ({ values, count }) => `${count} ${(values[0] ?? '').replaceAll('_', ' ')}`,
  );
  return texts.join(', ') || 'all were delivered';
}

const STATE_COLOURS: Readonly<Record<string, string>> = {
  running: 'good',
  'unreachable-from-edge': 'warn',
  unresponsive: 'bad',
};

/** More rows help nobody, and the page stays small. */
const MAX_ROWS = 100;

function fleet(status: Status): Html {
  const { machines, fleet: list } = status;
  const running = machines.filter(({ state }) => state === 'running').length + 1;
  const hidden = machines.length - MAX_ROWS;
  const isDetailed = status.detail !== undefined;
  const address = isDetailed && html`<th>Sidecar</th>`;
  return html`<section class="card fleet">
    <h2>
      Machines
      <span class="muted"
        >${formatCount(running)} of ${formatCount(machines.length + 1)} respond ·
        ${LISTS[list.kind] ?? list.kind}</span
      >
    </h2>
    <table>
      <thead>
        <tr>
          <th>Machine</th>
          <th>State</th>
          <th>Why</th>
          <th>Region</th>
          <th>New sessions</th>
          ${address}
          <th class="number">Sessions</th>
        </tr>
      </thead>
      <tbody>
        ${ownRow(status)}${machines.slice(0, MAX_ROWS).map((machine) => machineRow(status, machine))}
      </tbody>
    </table>
    ${hidden > 0 && html`<p class="note">${formatCount(hidden)} more are in the JSON.</p>`}
  </section>`;
}

const LISTS: Readonly<Record<string, string>> = {
  off: 'FLEET=off: no other Machines are known',
  static: 'the list of FLEET',
  starting: 'the list was not read yet',
  ok: "the list of Fly.io's DNS",
  failing: "the last list that could be read of Fly.io's DNS",
};

function ownRow({ machine, region, ready, reason, notAccepting, sessions, detail }: Status): Html {
  return row({
    machine,
    isSelf: true,
    state: ready ? 'running' : (reason ?? 'not ready'),
    colour: ready ? 'good' : 'warn',
    why: 'shows this page',
    region,
    takes: notAccepting === undefined ? 'taken' : `not taken: ${notAccepting}`,
    address: detail && '',
    sessions: sessions.byMachine && (sessions.byMachine[machine] ?? 0),
  });
}

function machineRow(
  { sessions, detail }: Status,
  { machine, region, state, why, takesSessions, address }: Status['machines'][number],
): Html {
  const takes = takesSessions === undefined ? 'unknown' : takesSessions ? 'taken' : 'not taken';
  return row({
    ...{ machine, isSelf: false, state, region, why },
    colour: STATE_COLOURS[state] ?? 'off',
    takes: state === 'running' ? takes : '–',
    address: detail && (address ?? ''),
    sessions: sessions.byMachine && (sessions.byMachine[machine] ?? 0),
  });
}

interface Row {
  readonly machine: string;
  readonly isSelf: boolean;
  readonly state: string;
  readonly colour: string;
  readonly why: string;
  readonly region: string | undefined;
  readonly takes: string;
  readonly address: string | undefined;
  readonly sessions: number | undefined;
}

function row({ machine, isSelf, state, colour, why, region, takes, address, sessions }: Row): Html {
  const shownAddress =
    address !== undefined && html`<td class="address" data-name="Sidecar:">${address}</td>`;
  return html`<tr>
    <td class="id">${machine}${isSelf && html` <span class="pill">this one</span>`}</td>
    <td><span class="state ${colour}">${state.replaceAll('-', ' ')}</span></td>
    <td class="why muted">${why}</td>
    <td data-name="Region:">${region ?? '–'}</td>
    <td data-name="New sessions:">${takes}</td>
    ${shownAddress}
    <td class="number" data-name="Sessions:">
      ${sessions === undefined ? '…' : formatCount(sessions)}
    </td>
  </tr>`;
}

function lookup(access: Access | undefined, result: string | undefined): Html {
  if (access === undefined) {
    return html`<section class="card">
      <h2>Look up a session</h2>
      <p class="muted">
        Needs the setting ADMIN_TOKEN, as do addresses, paths and the texts of errors.
      </p>
    </section>`;
  }
  return html`<section class="card" data-keep>
    <h2>Look up a session <span class="muted">with ADMIN_TOKEN</span></h2>
    <form method="post" action="/" autocomplete="off">
      <label for="token">Token</label
      ><input id="token" name="token" type="password" autocomplete="off" required />
      <label for="id">Session id</label
      ><input id="id" name="id" type="password" autocomplete="off" spellcheck="false" />
      <button>Look up</button>
    </form>
    <p class="result" id="result" role="status">${result}</p>
    <p class="note">
      The token also shows addresses, paths and the texts of errors on this page.
      <noscript
        >Without JavaScript the id goes to this sidecar in the body of the request, and is hashed
        there.</noscript
      ><span hidden id="hashed">The id is hashed in the browser: only its key is sent.</span>
    </p>
  </section>`;
}
