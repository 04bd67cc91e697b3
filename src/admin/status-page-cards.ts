/** The cards of the status page: decisions, protocols, store, events. */
import { formatDuration } from '../duration.ts';
import { kindOfProtocol, NO_PROTOCOL, sumOf, type CountSample } from '../observability/metrics.ts';
import type { RecentEvent } from '../observability/recent-events.ts';
import { presetOf, PRESETS } from '../protocols/presets.ts';
import type { DecisionKind } from '../routing/decision.ts';
import { html, type Html } from './html.ts';
import type { Status } from './status.ts';
import { formatCount, formatTime } from './status-page-format.ts';

const DECISIONS: Readonly<Record<DecisionKind, string>> = {
  local: 'served by the app here',
  replay: 'sent to its Machine by Fly Proxy',
  forward: 'sent to its Machine over the private network',
  elsewhere: 'sent to any other Machine',
  refuse: 'rejected by the sidecar',
};

export function decisionsCard({ requests }: Status): Html {
  const total = sumOf(requests.decisions);
  const groups = Object.entries(DECISIONS).map(([kind, means]) => {
    const samples = requests.decisions.filter(
      ({ values, count }) => values[0] === kind && count > 0,
    );
    return decisionRows(kind, means, samples, total);
  });
  const empty = total === 0 && html`<p class="muted">No request since the start.</p>`;
  return html`<section class="card">
    <h2>Requests by decision <span class="muted">and why</span></h2>
    ${
      empty ||
      html`<table>
        <tbody>
          ${groups}
        </tbody>
      </table>`
    }
  </section>`;
}

function decisionRows(
  kind: string,
  means: string,
  samples: readonly CountSample[],
  total: number,
): Html | undefined {
  if (samples.length === 0) return undefined;
  const sum = sumOf(samples);
  const parts = [...samples]
    .sort((one, other) => other.count - one.count)
    .map(
      ({ values, count }) =>
        html`<tr class="part">
          <td>${values[1]}</td>
          <td></td>
          <td class="number">${formatCount(count)}</td>
        </tr>`,
    );
  return html`<tr class="group">
      <td>${kind} <span class="muted more">${means}</span></td>
      <td class="wide">${bar(sum / total)}</td>
      <td class="number">${formatCount(sum)}</td>
    </tr>
    ${parts}`;
}

/** An SVG, as the page allows no style attributes. */
function bar(share: number): Html {
  const width = Math.round(share * 1_000) / 10;
  return html`<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
    <rect width="${width}" height="6" />
  </svg>`;
}

const STATUSES = ['2xx', '3xx', '4xx', '5xx', '499'] as const;

export function protocolsCard({ requests, protocols }: Status): Html {
  const rows = protocolsIn(requests.ofClients, protocols).map(protocolRow);
  const heads = STATUSES.map((status) => html`<th class="number">${status}</th>`);
  const table = html`<table>
    <thead>
      <tr>
        <th>Protocol</th>
        ${heads}
        <th class="number">Served here</th>
      </tr>
    </thead>
    <tbody>
      ${rows}
    </tbody>
  </table>`;
  return html`<section class="card">
    <h2>
      Requests by protocol
      <span class="muted">as recognized, with the status that clients got</span>
    </h2>
    ${rows.length === 0 ? html`<p class="muted">No response to a client yet.</p>` : table}
  </section>`;
}

/** The requests of one protocol; those that a setting spells itself are one for each kind. */
interface ProtocolCounts {
  readonly name: string;
  /** Products, or what the setting spells. */
  readonly means: string;
  readonly byStatus: ReadonlyMap<string | undefined, number>;
  /** Undefined for requests without a session id. */
  readonly served: number | undefined;
}

function protocolsIn(
  samples: readonly CountSample[],
  served: Status['protocols'],
): ProtocolCounts[] {
  const counted = samples.filter(({ count }) => count > 0);
  const servedNames = Object.keys(served);
  const kinds = [
    ...counted.map(({ values: [kind = ''] }) => kind),
    ...servedNames.map(kindOfProtocol),
  ];
  return [...new Set(kinds)].sort().map((name) => {
    const ofKind = servedNames.filter((each) => kindOfProtocol(each) === name);
    const spelt = ofKind.filter((each) => each !== name).join(', ');
    const ofClients = counted.filter(({ values: [kind] }) => kind === name);
    return {
      name,
      means:
        name === NO_PROTOCOL ? 'no session id' : (PRESETS[presetOf(name) ?? '']?.products ?? spelt),
      byStatus: new Map(ofClients.map(({ values: [, status], count }) => [status, count])),
      served:
        name === NO_PROTOCOL
          ? undefined
          : ofKind.reduce((sum, each) => sum + (served[each] ?? 0), 0),
    };
  });
}

function protocolRow({ name, means, byStatus, served }: ProtocolCounts): Html {
  const counts = [...STATUSES.map((status) => byStatus.get(status) ?? 0), served];
  const cells = counts.map(
    (count) =>
      html`<td class="number${!count && ' muted'}">
        ${count === undefined ? '–' : formatCount(count)}
      </td>`,
  );
  return html`<tr>
    <td>${name} <span class="muted">${means}</span></td>
    ${cells}
  </tr>`;
}

export function storeCard({ store, storeMetrics, detail, now }: Status): Html {
  const { state = 'healthy', failing, code, reason, forMs = 0, writeBack } = store;
  const colour = { healthy: 'good', recovering: 'warn', degraded: 'bad' }[state];
  const isHealthy = state === 'healthy';
  const cleanedAt = storeMetrics?.lastCleanupAt;
  return html`<section class="card">
    <h2>Session store <span class="muted">${store.kind}</span></h2>
    <dl class="values">
      ${value('State', html`<span class="state ${colour}">${state}${!isHealthy && ` for ${formatDuration(forMs)}`}</span>`)}
      ${!isHealthy && value('What fails', `${failing ?? 'unknown'}${code === undefined ? '' : ` (${code})`}`)}
      ${reason !== undefined && value('Reason', reason)}
      ${detail && value('Where', html`<span class="id">${detail.store}</span>`)}
      ${writeBack && value('Backlog', backlogText(writeBack))}
      ${
        storeMetrics && [
          value(
            'Sessions',
            `${formatCount(storeMetrics.total - storeMetrics.expired)}, copies of others included`,
          ),
          value('Size', formatBytes(storeMetrics.sizeBytes)),
          value('Writes', formatCount(storeMetrics.upserts + storeMetrics.deletes)),
          value('Errors', formatCount(storeMetrics.errors)),
          value(
            'Last clean-up',
            cleanedAt === undefined ? 'not yet' : `${formatDuration(now - cleanedAt)} ago`,
          ),
        ]
      }
    </dl>
  </section>`;
}

function backlogText({
  depth,
  ageMs,
  isDurable,
}: NonNullable<Status['store']['writeBack']>): string {
  if (depth === 0) return 'empty';
  const survives = isDurable ? 'kept on disk' : 'in memory only';
  return `${formatCount(depth)}, oldest ${formatDuration(ageMs)}, ${survives}`;
}

function value(name: string, content: Html | string): Html {
  return html`<dt>${name}</dt>
    <dd>${content}</dd>`;
}

function formatBytes(bytes: number): string {
  if (bytes === 0) return 'nothing on disk';
  const [size, unit] = bytes < 1_048_576 ? [bytes / 1_024, 'KB'] : [bytes / 1_048_576, 'MB'];
  return `${size.toLocaleString('en-US', { maximumFractionDigits: size < 10 ? 1 : 0 })} ${unit}`;
}

export function eventsCard({ events, now }: Status): Html {
  return eventList(
    'Changes of state',
    '',
    events.others,
    now,
    'Nothing has changed since the start.',
  );
}

export function sessionEventsCard({ events, sessions, now }: Status): Html {
  const released = sessions.released
    .filter(({ count }) => count > 0)
    .map(({ values: [why], count }) => `${formatCount(count)} ${why ?? ''}`)
    .join(', ');
  const counts = `${formatCount(sessions.conflicts)} conflicts · released: ${released || 'none'}`;
  return eventList(
    'Conflicts and releases',
    counts,
    events.ofSessions,
    now,
    'None since the start.',
  );
}

const SHOWN_EVENTS = 10;

function eventList(
  title: string,
  counts: string,
  events: readonly RecentEvent[],
  now: number,
  empty: string,
): Html {
  const items = events.slice(0, SHOWN_EVENTS).map((event) => eventItem(event, now));
  return html`<section class="card">
    <h2>${title} <span class="muted">${counts}</span></h2>
    ${
      items.length === 0
        ? html`<p class="muted">${empty}</p>`
        : html`<ul class="events">
            ${items}
          </ul>`
    }
  </section>`;
}

function eventItem({ at, level, message, count, about, detail }: RecentEvent, now: number): Html {
  const fields = Object.entries(about).map(([name, text]) => `${name} ${text}`);
  const times = count > 1 && html` <span class="pill">${formatCount(count)} times</span>`;
  return html`<li>
    <time datetime="${new Date(at).toISOString()}" title="${formatTime(at)} UTC"
      >${formatDuration(now - at)} ago</time
    >
    <div>
      <span class="${level}">${message}</span>${times}
      <span class="about">${fields.join(', ')}</span
      >${detail !== '' && html`<code>${detail}</code>`}
    </div>
  </li>`;
}
