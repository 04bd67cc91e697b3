/**
 * node:http for what runs in the sidecar. An `import` of it reads each of its exports, and the
 * getter of `WebSocket` then loads Node's own copy of undici: 13 MB of memory that nothing here uses
 * (Node 22 and 24, lib/http.js). Types can be imported as usual.
 */
export const { createServer, request, STATUS_CODES } = process.getBuiltinModule('node:http');
