/** The app routes by itself: its answer tells the edge to replay the request, in either form. */
import { headerIncludes, type ResponseHead } from './raw-headers.ts';

/** A replay may be told in a body of this type too (Fly.io, "Dynamic Request Routing"). */
const REPLAY_BODY_TYPE = 'application/vnd.fly.replay+json';

export function isReplayAnswer({ rawHeaders }: ResponseHead): boolean {
  return (
    headerIncludes(rawHeaders, 'fly-replay', '') ||
    headerIncludes(rawHeaders, 'content-type', REPLAY_BODY_TYPE)
  );
}
