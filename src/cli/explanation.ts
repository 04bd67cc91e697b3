/** An explanation of the sidecar in plain sentences: first the decision, then the steps to it. */
import type { DecisionKind, NotAccepting, Why } from '../routing/decision.ts';
import type { Explanation } from '../routing/explain.ts';
import type { KnownOwner, MachineState, OwnerLookup, RoutingFacts } from '../routing/facts.ts';
import type { Step } from '../routing/trace.ts';
import { formatDuration } from '../duration.ts';

type StepOf<Name extends Step['step']> = Extract<Step, { readonly step: Name }>;

/** A sidecar of another version may have taken steps that this version does not know. */
export function formatExplanation({ machine, steps, response }: Explanation): string {
  const sentences = steps.flatMap((step) => describeStep(step, steps));
  return withoutControlCharacters(
    `${[
      ...summaryOf(steps),
      '',
      `Steps of Machine ${machine}:`,
      ...sentences.map((text, index) => `  ${index + 1}. ${text}`),
      '',
      ...describeResponse(response),
    ].join('\n')}\n`,
  );
}

/** What is not text would act on the terminal. */
function withoutControlCharacters(text: string): string {
  return text.replaceAll(/[^\P{C}\n]/gu, '?');
}

function summaryOf(steps: readonly Step[]): string[] {
  const found = lastOf(steps, 'decision');
  if (!found) return ['Decision: none that this version of fly-affinity knows'];
  const { decision, row } = found;
  const rowText = row === undefined ? '' : `, row ${row}`;
  const owner = lastOf(steps, 'owner')?.owner;
  const target = 'to' in decision ? decision.to : '';
  const status = 'status' in decision ? decision.status : '';
  return [
    `Decision: ${DECISIONS[decision.kind]}${target}${status} (${decision.kind}, ${decision.why}${rowText})`,
    `Why:      ${describeWhy(decision.why, owner)}`,
    `Owner:    ${describeOwner(owner)}`,
    `Session:  ${describeSession(lastOf(steps, 'session'))}`,
  ];
}

function lastOf<Name extends Step['step']>(
  steps: readonly Step[],
  name: Name,
): StepOf<Name> | undefined {
  return steps.findLast((step): step is StepOf<Name> => step.step === name);
}

const DECISIONS: Readonly<Record<DecisionKind, string>> = {
  local: 'the app of this Machine gets the request',
  replay: 'Fly Proxy replays the request to Machine ',
  elsewhere: 'Fly Proxy replays the request to any other Machine',
  forward: 'this sidecar forwards the request over the private network to Machine ',
  refuse: 'this sidecar responds with ',
};

/** In the table of `docs/operations.md`, too. */
export const MEANINGS: Readonly<Record<Why, string>> = {
  moved: 'another Machine owns the session, so a peer must not forward the request here',
  'peer-hop': 'a peer has forwarded the request here',
  draining: 'this Machine drains: new sessions go to other Machines',
  full: 'this Machine has as many sessions as MAX_SESSIONS_PER_MACHINE allows',
  'upstream-down': 'the app of this Machine is down: new sessions go to other Machines',
  'no-session': 'the request has no session id, so any Machine may serve it',
  owner: 'this Machine owns the session',
  'owner-unreachable': 'the owner of the session cannot be reached',
  'owner-gone': 'the owner of the session is gone',
  'moved-since-replay': 'the request was replayed here, but another Machine owns the session',
  'too-large-to-replay':
    'another Machine owns the session, and the body is too large to be replayed, or has no length',
  detour: 'Fly Proxy has failed to reach the owner a moment ago; the private network has not',
  'not-owner': 'another Machine owns the session',
  'unknown-session': 'no Machine knows the session',
  placed: 'the session has no living owner, and its id places it on that Machine',
  'claim-lost': 'another Machine was first to claim the session',
  'app-replay': 'the app of another Machine has replayed the request to this one',
  'peers-inconclusive': 'what may know the session (a Machine, or a store) has not responded',
  'conflicting-ids': 'one name of a listed protocol carries two different session ids',
  'malformed-request': 'the request is malformed',
  'loop-detected': 'the request has passed this sidecar three times',
  overloaded: 'the client has sent too many requests with unknown ids, or memory is short',
  'app-starting': 'the app has not started yet',
};

function describeWhy(why: Why, owner: OwnerLookup | undefined): string {
  const isByCookie = owner?.kind === 'owner' && owner.knownBy === 'cookie';
  if (isByCookie && why === 'owner') return 'the affinity cookie names this Machine';
  if (isByCookie && why === 'not-owner') return 'the affinity cookie names another Machine';
  return MEANINGS[why];
}

function describeOwner(owner: OwnerLookup | undefined): string {
  if (!owner) return 'was not looked up';
  if (owner.kind === 'none') return 'none';
  if (owner.kind === 'inconclusive') return 'not known: not every source has responded';
  return `Machine ${owner.machine}, ${LIVENESS[owner.liveness]}, known ${KNOWN_BY[owner.knownBy]}`;
}

const LIVENESS: Readonly<Record<KnownOwner['liveness'], string>> = {
  running: 'running',
  'unreachable-from-edge': 'running, but Fly Proxy has failed to reach it',
  unresponsive: 'running, but unresponsive',
  asleep: 'asleep: it has suspended itself, and a replay wakes it',
  stopped: 'stopped or suspended',
  unlisted: 'not in the directory',
  gone: 'gone',
};

const KNOWN_BY: Readonly<Record<KnownOwner['knownBy'], string>> = {
  store: "by this Machine's store",
  hint: 'by the owner hint in the session id',
  peers: 'by its own response',
  cookie: 'by the affinity cookie',
};

function describeSession(step: StepOf<'session'> | undefined): string {
  if (step?.found === 'conflict') return 'in doubt: one name carries two different ids';
  if (step?.found !== 'id') return 'none: the path and the headers carry no session id';
  const { key, protocol, name } = step;
  const place = name === undefined ? `the ${step.in}` : `${PLACES[step.in] ?? step.in} ${name}`;
  return `key ${key}, of an id in ${place} (${protocol})`;
}

const PLACES: Readonly<Record<string, string>> = {
  header: 'the header',
  query: 'the query parameter',
  cookie: 'the cookie',
};

function describeStep(step: Step, all: readonly Step[]): string[] {
  switch (step.step) {
    case 'request':
      return [`The request is ${step.is}.`];
    case 'session':
      return [sentence(`Session: ${describeSession(step)}`), ...describeHint(step)];
    case 'store':
      return [describeStored(step.result)];
    case 'peers':
      return [describePeers(step)];
    case 'directory':
      return [`Machine ${step.machine} is ${LIVENESS[step.liveness]}.`];
    case 'directory-refresh':
      return [REFRESHED.get(step.foundNewcomer) ?? ''];
    case 'owner':
      return [sentence(`Owner: ${describeOwner(step.owner)}`)];
    case 'facts':
      return describeFacts(step.facts);
    case 'state':
      return describeState(step.state, lastOf(all, 'facts')?.facts.mintedBy);
    case 'decision':
      return step.row === undefined ? [] : [`Row ${step.row} of the decision table applies.`];
    default:
      // Of a newer sidecar.
      step satisfies never;
      return [];
  }
}

function sentence(text: string): string {
  return `${text}.`;
}

function describeHint(step: StepOf<'session'>): string[] {
  return 'hint' in step ? [`The id ends with an owner hint: Machine ${step.hint}.`] : [];
}

function describeStored(result: StepOf<'store'>['result']): string {
  if (result === 'absent') return "This Machine's store does not have the session.";
  if (result === 'unknown') return "This Machine's store does not respond.";
  const { machine, origin, expiresInMs } = result as Readonly<Record<string, unknown>>;
  const how = ORIGINS.get(origin) ?? `is ${String(origin)}`;
  const left = formatDuration(Number(expiresInMs));
  return `This Machine's store names Machine ${String(machine)}; the binding ${how}, and expires in ${left}.`;
}

const ORIGINS = new Map<unknown, string>([
  ['learned', 'was made when the app revealed the id'],
  ['adopted', 'was made when the app accepted the id of a client'],
  ['copied', 'is a copy that its owner has sent'],
]);

function describePeers({ each, result }: StepOf<'peers'>): string {
  const responses = Object.entries(each).map(([id, response]) => `${id} ${RESPONSES[response]}`);
  if ('isShed' in result) return 'No peer was queried: the limit of queries is reached.';
  if (responses.length === 0) return `Peers were queried: ${RESULTS[result.kind]}.`;
  return `Peers were queried: ${responses.join(', ')}.`;
}

const RESPONSES = {
  mine: 'owns the session',
  no: 'does not have the session',
  unknown: 'does not know',
} as const;

const RESULTS = {
  owner: 'one owns the session',
  none: 'there is none that could have the session',
  inconclusive: 'none has responded',
} as const;

const REFRESHED = new Map<boolean | undefined, string>([
  [true, 'The directory was read again: there is a new Machine.'],
  [false, 'The directory was read again: there is no new Machine.'],
  [undefined, 'The directory can not be read.'],
]);

function describeFacts(facts: RoutingFacts): string[] {
  return [
    facts.from === 'peer' ? 'A peer has forwarded the request.' : '',
    facts.wasReplayed
      ? `A sidecar has replayed it once${of(facts.replayedBy)}: no second time.`
      : '',
    facts.unmarkedFrom === undefined
      ? ''
      : `The app of Machine ${facts.unmarkedFrom} has replayed it.`,
    facts.cameBackByFallback ? `Fly Proxy could not deliver it${to(facts.undeliveredTo)}.` : '',
    facts.isFromReplayCache ? "Fly Proxy's replay cache has sent it here." : '',
    facts.isReplayable ? '' : 'Its body is too large to be replayed, or has no length.',
  ].filter((text) => text !== '');
}

function of(machine: string | undefined): string {
  return machine === undefined ? '' : `, that of Machine ${machine}`;
}

function to(machine: string | undefined): string {
  return machine === undefined ? '' : ` to Machine ${machine}`;
}

const NOT_ACCEPTING: Readonly<Record<NotAccepting, string>> = {
  draining: 'it drains',
  full: 'it is full',
  'upstream-down': 'its app is down',
};

function describeState(
  state: MachineState,
  mintedBy: RoutingFacts['mintedBy'] | undefined,
): string[] {
  const { notAccepting, hasOtherMachines, placedOn, isFleetProbed } = state;
  return [
    notAccepting && `This Machine takes no new sessions: ${NOT_ACCEPTING[notAccepting]}.`,
    hasOtherMachines ? undefined : 'No other Machine runs.',
    placedOn && mintedBy !== 'app' && `A new session with this id belongs on Machine ${placedOn}.`,
    isFleetProbed ? undefined : 'This Machine has just started: it does not know every peer yet.',
  ].filter((text) => typeof text === 'string');
}

function describeResponse(response: Explanation['response']): string[] {
  switch (response.by) {
    case 'app':
      return ['The app of this Machine would respond.'];
    case 'peer':
      return [`The app of Machine ${response.machine} would respond, through this sidecar.`];
    case 'sidecar': {
      const headers = Object.entries(response.headers).map(
        ([name, value]) => `  ${name}: ${value}`,
      );
      return [`This sidecar would respond: ${response.status}`, ...headers];
    }
  }
}
