/** The `state` of a replay: the mark of a sidecar, and its span where there are traces. */

/**
 * The `state` of a replay by a sidecar, which sets it off from a replay by an app. Anyone may write it: it
 * only means that the one replay of a sidecar is used up.
 */
export const REPLAY_MARK = 'fly-affinity';

const MARK_WITH_TRACE = `${REPLAY_MARK}.`;

/** Whether a sidecar has written this `state`, with or without a trace; what stands behind the mark is no matter. */
export function isReplayMark(state: string | undefined): boolean {
  return state !== undefined && (state === REPLAY_MARK || state.startsWith(MARK_WITH_TRACE));
}

/** `spanOfReplay`: that of the sidecar that replays, as `<trace id>-<span id>-<flags>`. */
export function replayMarkWith(spanOfReplay: string): string {
  return MARK_WITH_TRACE + spanOfReplay;
}

/** What {@link replayMarkWith} was given, unchecked; undefined without it. */
export function spanOfReplay(state: string | undefined): string | undefined {
  return state?.startsWith(MARK_WITH_TRACE) ? state.slice(MARK_WITH_TRACE.length) : undefined;
}
