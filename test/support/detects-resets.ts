/**
 * Whether this Node.js distinguishes a reset from an end when the last bytes arrive together with
 * it. libuv before 1.52 (Node.js 22) reports an end, and no program can detect the difference.
 */
const [MAJOR = 0, MINOR = 0] = process.versions.uv.split('.').map(Number);

export const DETECTS_RESETS = MAJOR > 1 || (MAJOR === 1 && MINOR >= 52);
