/** Short notations for a request, a response and a configuration. */
import type { Protocol } from '../../src/protocols/protocol.ts';
import assert from 'node:assert/strict';
import { parseProtocols } from '../../src/protocols/setting.ts';
import type { RequestHead, ResponseHead } from '../../src/protocols/heads.ts';
import type { FoundId, RequestIds } from '../../src/protocols/request-ids.ts';
import { type MachineId, parseMachineId } from '../../src/session.ts';

export function protocolsOf(text: string): readonly Protocol[] {
  const { protocols, mistakes } = parseProtocols(text);
  assert.deepEqual(mistakes, undefined);
  return protocols;
}

export const DEFAULT_PROTOCOLS = protocolsOf('mcp,mcp-sse,rpc');

export function machine(text: string): MachineId {
  const id = parseMachineId(text);
  assert.ok(id, `${text} is a Machine id`);
  return id;
}

export function get(target: string, ...rawHeaders: string[]): RequestHead {
  return { method: 'GET', target, rawHeaders };
}

export function post(target: string, ...rawHeaders: string[]): RequestHead {
  return { method: 'POST', target, rawHeaders };
}

export function responseWith(statusCode: number, ...rawHeaders: string[]): ResponseHead {
  return { statusCode, rawHeaders };
}

/** The ids in one line: `mcp abc`, `mcp abc ~m1`, `conflict session_id`, `none`. */
export function describeIds(ids: RequestIds): string {
  if (ids.kind === 'none') return 'none';
  if (ids.kind === 'conflict') return `conflict ${ids.name}`;
  return [ids, ...(ids.others ?? [])].map(describeId).join(', ');
}

function describeId({ protocol, id, hint }: FoundId): string {
  return `${protocol.name} ${id}${hint === undefined ? '' : ` ~${hint}`}`;
}

export function head(method: string, target: string, ...rawHeaders: string[]): RequestHead {
  return { method, target, rawHeaders };
}

/** Opens a WebSocket. */
export function upgrade(target: string, ...rawHeaders: string[]): RequestHead {
  return { ...get(target, ...rawHeaders), upgrade: 'websocket' };
}

export function postJson(target: string, body: string): RequestHead {
  return { ...post(target, 'content-type', 'application/json'), body };
}

/** A response of JSON. */
export function jsonWith(statusCode: number, ...rawHeaders: string[]): ResponseHead {
  return responseWith(statusCode, 'content-type', 'application/json; charset=utf-8', ...rawHeaders);
}
