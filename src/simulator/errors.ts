/** The errors that the edge answers by itself (https://fly.io/docs/monitoring/error-codes/). */

/** What is wrong, and the status that the client gets; the statuses are not documented. */
const ERRORS = {
  PA01: { status: 502, text: 'the body of the request is too large to be replayed' },
  PA02: { status: 502, text: 'more than ten replays' },
  PA03: { status: 502, text: 'invalid fly-replay' },
  PA04: { status: 502, text: 'the app that fly-replay names was not found' },
  PC01: { status: 502, text: 'the Machine refused the connection' },
  PR01: { status: 503, text: 'no healthy Machines' },
  PR02: { status: 502, text: 'Machine not found' },
  PR03: { status: 503, text: 'no Machine was reached after all retries' },
  PR04: { status: 503, text: 'no candidate Machines' },
  PU02: { status: 502, text: 'the request could not be completed' },
} as const satisfies Record<string, { readonly status: number; readonly text: string }>;

export type EdgeErrorCode = keyof typeof ERRORS;

export interface EdgeError {
  readonly code: EdgeErrorCode;
  readonly status: number;
  readonly body: string;
}

export function edgeError(code: EdgeErrorCode): EdgeError {
  const { status, text } = ERRORS[code];
  return { code, status, body: `${code}: ${text}\n` };
}
