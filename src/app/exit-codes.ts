/** The exit codes of the program, except 0 and the app's own code (sysexits.h). */

export const EXIT_FAILURE = 1;
/** The arguments are wrong. */
export const EXIT_USAGE = 64;
/** A store or a sidecar can't be reached, or fails. */
export const EXIT_UNAVAILABLE = 69;
/** The environment is wrong. */
export const EXIT_CONFIG = 78;
