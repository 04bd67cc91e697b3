/** What `fly-affinity sessions --help` says. */
export const SESSIONS_USAGE = `Usage: fly-affinity sessions COMMAND [OPTIONS]

  list [--owner MACHINE] [--limit N] [--json]
                    the sessions: key, owner, how it is known, generation, age, time left
  get ID | --key KEY [--json]
                    one session
  delete ID | --key KEY [--if-owner MACHINE]
                    forgets one session. The app is not told, and a hint in the id still leads there
  export [FILE]     writes all sessions as JSON lines; into FILE whole or not at all
  import [FILE] [--dry-run]
                    takes such lines into a store. No live session is shortened or taken back, so it
                    can be done again; every bad line is named, and the others are imported

  ID        the session id as the client has it, with its hint or without; "-" reads it from
            standard input. An id is a credential, and a command line is seen by others and kept by
            the shell: prefer "-". It is turned into its key at once, and goes no further.
  FILE      "-" or nothing: standard output, or input

Which sessions: those behind the sidecar that runs here, if ADMIN_TOKEN is set; else those in the
store that the environment names, as for serve (SESSION_STORE_URL, SESSION_STORE_PATH).
  --admin URL       those behind the sidecar with its admin port there; wants ADMIN_TOKEN
  --direct          those in the store that the environment names, though a sidecar runs
  --store STORE     those in sqlite:PATH, redis://HOST, rediss://HOST or postgres://HOST/NAME. A
                    password is better off in SESSION_STORE_URL. SESSION_STORE_NAMESPACE, else
                    FLY_APP_NAME, says which fleet's sessions of a database.

Exit code: 0; 1 if the session is not there, a line was bad, or a file could not be read or written;
64 for a mistake in the command; 69 if the store or the sidecar can't be reached, or fails; 78 for a
mistake in the settings.
`;
