/** `fly-affinity serve`: the sidecar alone. */
import { serveUntilSignal } from '../app/lifecycle.ts';
import {
  runSidecarProcess,
  type StartSidecar,
  type ProcessContext,
} from '../app/sidecar-process.ts';

/** Resolves to the exit code. */
export function serve(surroundings: ProcessContext, startSidecar: StartSidecar): Promise<number> {
  return runSidecarProcess(surroundings, startSidecar, (own) =>
    serveUntilSignal(own.start(), own.signals, own),
  );
}
