/** What an operator should look at first, in sentences. */
import { formatDuration } from '../duration.ts';
import type { NotAccepting } from '../routing/decision.ts';
import type { Status } from './status.ts';

interface Problem {
  readonly level: 'bad' | 'warn';
  readonly text: string;
}

/** The worst first. */
export function problemsOf(status: Status): readonly Problem[] {
  return [
    ...aboutApp(status),
    ...aboutStore(status),
    ...aboutFleet(status),
    ...aboutThisMachine(status),
    ...aboutSleep(status),
    ...status.missingPresets.map((preset) => ({
      level: 'warn' as const,
      text: `Requests look like those of the preset "${preset}", which SESSION_PROTOCOLS lacks.`,
    })),
  ];
}

function aboutApp({ upstream }: Status): Problem[] {
  if (upstream?.state !== 'down') return [];
  const since = formatDuration(upstream.forMs);
  const text = `The app is down for ${since} (${upstream.reason}): new sessions go to other Machines.`;
  return [{ level: 'bad', text }];
}

function aboutStore({ store }: Status): Problem[] {
  const { state = 'healthy', failing, forMs = 0, writeBack, reason } = store;
  if (state === 'healthy') return [];
  const since = formatDuration(forMs);
  const waiting = `${writeBack?.depth ?? 0} changes wait to be written`;
  if (state === 'recovering') {
    return [{ level: 'warn', text: `The session store works again: ${waiting}.` }];
  }
  const what = failing === 'reads' || failing === 'writes' ? ` (${failing})` : '';
  const why = reason === undefined ? '' : ` Reason: ${reason}.`;
  return [
    {
      level: 'bad',
      text: `The session store fails${what} for ${since}: memory replaces it, ${waiting}.${why}`,
    },
  ];
}

function aboutFleet({ fleet, machines }: Status): Problem[] {
  const unresponsive = machines.filter(({ state }) => state === 'unresponsive');
  const problems: Problem[] = unresponsive.map(({ machine, why }) => ({
    level: 'bad',
    text: `Machine ${machine} ${why}: its sessions get 503 until it responds.`,
  }));
  if (fleet.kind !== 'failing') return problems;
  const why = fleet.reason === undefined ? '' : ` (${fleet.reason})`;
  const text = `The list of Machines can't be read${why}: the last one is used.`;
  return [...problems, { level: 'warn', text }];
}

function aboutSleep({ sleep }: Status): Problem[] {
  if (!sleep?.hasFailed) return [];
  const why = sleep.lastFailure === undefined ? '' : ` (${sleep.lastFailure})`;
  return [{ level: 'warn', text: `This Machine could not suspend itself${why}.` }];
}

const WHY_NOT: Readonly<Record<NotAccepting, string>> = {
  draining: 'it is drained',
  full: 'it has MAX_SESSIONS_PER_MACHINE sessions',
  'upstream-down': 'its app is down',
};

function aboutThisMachine({ reason, notAccepting }: Status): Problem[] {
  if (reason === 'starting') {
    return [{ level: 'warn', text: 'The sidecar starts: it is not ready yet.' }];
  }
  if (reason === 'draining') {
    return [{ level: 'warn', text: 'A signal is stopping this Machine: it drains.' }];
  }
  if (notAccepting === undefined || notAccepting === 'upstream-down') return [];
  const text = `This Machine takes no new sessions: ${WHY_NOT[notAccepting]}.`;
  return [{ level: 'warn', text }];
}
