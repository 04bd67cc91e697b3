/**
 * The one log line that every request ends with, in pino's shape. It is put together by hand: with
 * pino it was the costliest part of a request that is passed through. HOT PATH.
 */
import { DECISION_KINDS, WHYS, type DecisionKind, type Why } from '../routing/decision.ts';
import type { MachineId, SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import type { Logger } from '../observability/log.ts';

/** What the one line says that every request ends with. Absent fields are left out. */
export interface RequestLine {
  readonly requestId: string;
  readonly method: string;
  /** The raw request-target: its query is cut off here. */
  readonly target: string;
  readonly session: SessionKey | undefined;
  readonly decision: DecisionKind;
  readonly why: Why;
  /** What is wrong with a malformed request, or why a stream was broken off: a constant sentence. */
  readonly reason?: string | undefined;
  /** Who owns the session, where somebody does. */
  readonly owner: MachineId | undefined;
  /** As the client saw it; 499 for a client that left. */
  readonly status: number;
  /** From the request's arrival to the end of its answer. */
  readonly durationMs: number;
}

const INFO = 30;
const MAX_PATH_CHARACTERS = 256;
const MAX_REQUEST_ID_CHARACTERS = 128;
/** What JSON does not take as it is, and what is no plain ASCII: rare enough for the long way. */
const NEEDS_ESCAPING = /["\\]|[^ -~]/;

/** `maskPath` takes ids out of a path. */
export function createRequestLog(
  logger: Logger,
  clock: Clock,
  maskPath: (path: string) => string = (path) => path,
): (line: RequestLine) => void {
  if (!logger.isLevelEnabled('info')) return ignore;
  const { writeLine } = logger;
  const start = `{"level":${INFO},"time":`;
  const afterTime = `,"machine":"${logger.machine ?? ''}","requestId":"`;
  const decisions = decisionTexts();

  return (line) => {
    const { requestId, method, target, session, decision, why, reason, owner, status } = line;
    const request = `${quotable(requestId, MAX_REQUEST_ID_CHARACTERS)}","method":"${quotable(method, MAX_PATH_CHARACTERS)}`;
    const path = quotable(maskPath(pathOf(target)), MAX_PATH_CHARACTERS);
    const whose = session === undefined ? '"' : `","session":"${session}"`;
    const owned = owner === undefined ? '' : `,"owner":"${owner}"`;
    const end = `,"status":${status},"ms":${inHundredths(line.durationMs)},"msg":"request"}\n`;
    const decided = decisions[decision][why];
    const wrong = reason === undefined ? '' : `,"reason":"${reason}"`;
    writeLine(
      `${start}${clock.now()}${afterTime}${request}","path":"${path}${whose}${decided}${wrong}${owned}${end}`,
    );
  };
}

type DecisionTexts = Readonly<Record<DecisionKind, Readonly<Record<Why, string>>>>;

/** Both sets are closed, so every pair is one ready text. */
function decisionTexts(): DecisionTexts {
  const ofDecision = (decision: DecisionKind): Record<Why, string> =>
    Object.fromEntries(
      WHYS.map((why) => [why, `,"decision":"${decision}","why":"${why}"`]),
    ) as Record<Why, string>;
  const pairs = DECISION_KINDS.map((decision) => [decision, ofDecision(decision)] as const);
  return Object.fromEntries(pairs) as unknown as DecisionTexts;
}

function ignore(): void {
  // Nobody wants these lines.
}

/** Put together from two small integers, as the text of a fraction is costly to make. */
function inHundredths(durationMs: number): string {
  const hundredths = Math.round(durationMs * 100);
  const part = hundredths % 100;
  const whole = (hundredths - part) / 100;
  if (part === 0) return `${whole}`;
  return part < 10 ? `${whole}.0${part}` : `${whole}.${part}`;
}

/** The inside of a JSON string. */
function quotable(text: string, maxCharacters: number): string {
  const short = shorten(text, maxCharacters);
  return NEEDS_ESCAPING.test(short) ? JSON.stringify(short).slice(1, -1) : short;
}

/** Without the query, and without the authority of an absolute target: either may hold credentials. */
function pathOf(target: string): string {
  const query = target.indexOf('?');
  const path = query === -1 ? target : target.slice(0, query);
  if (path.startsWith('/')) return path;
  const authorityStart = path.indexOf('://') + 3;
  const pathStart = authorityStart < 3 ? -1 : path.indexOf('/', authorityStart);
  return pathStart === -1 ? '*' : path.slice(pathStart);
}

function shorten(text: string, maxCharacters: number): string {
  return text.length > maxCharacters ? `${text.slice(0, maxCharacters)}…` : text;
}
