/** What `fly-affinity doctor --help` says. */
export const DOCTOR_USAGE = `Usage: fly-affinity doctor [--config fly.toml] [--json]

Looks at the settings, at fly.toml and, on a Machine of Fly.io, at the volume, the store, the DNS, the
other Machines, the clock, the app and the sidecar beside it. Says what is wrong, why it matters and
what to write instead. Changes nothing.

  --config FILE   the fly.toml; without it the one in this directory, if there is one
  --json          the findings as one JSON object: {ok, counts, findings: [{group, level, what, why,
                  instead}]}

Elsewhere than on a Machine it takes the settings from [env] of fly.toml, and what this shell sets goes
over them, as secrets do.

Exit code: 0; 1 if anything is an error (warnings are none); 64 for a mistake in the command.
`;
