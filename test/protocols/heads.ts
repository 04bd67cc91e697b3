/** Short notations for a request, a response and a configuration. */
import type { Protocol } from '../../src/protocols/protocol.ts';
import assert from 'node:assert/strict';
import { parseProtocols } from '../../src/protocols/setting.ts';
import type { RequestHead, ResponseHead } from '../../src/protocols/heads.ts';
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
