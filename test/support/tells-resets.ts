/**
 * Whether this Node.js tells a reset from an end where the last bytes come together with it. libuv
 * before 1.52 (Node.js 22) calls that an end, and nothing that a program can do tells it otherwise.
 */
const [MAJOR = 0, MINOR = 0] = process.versions.uv.split('.').map(Number);

export const TELLS_RESETS = MAJOR > 1 || (MAJOR === 1 && MINOR >= 52);
