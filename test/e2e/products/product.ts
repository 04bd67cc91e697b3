/** One row of the product table. */
import { readFileSync } from 'node:fs';
import type { Door } from '../apps/door.ts';
import type { Target } from '../support/target.ts';

/** Opens a session and calls; it must await `midway` once: one sidecar restarts there. */
export type ClientRun = (target: Target, midway: () => Promise<void>) => Promise<void>;

export interface Product {
  readonly name: string;
  /** The server: its version, or `small server` where the test has its own. */
  readonly version: string;
  readonly preset: string;
  /** `SESSION_PROTOCOLS`; `none`: the default. */
  readonly setting: 'none' | `auto,${string}`;
  readonly transports: string;
  /** With its version. */
  readonly client: string;
  /** Undefined: the row before has it too. Loaded only in the app's process. */
  readonly loadDoor: (() => Promise<Door>) | undefined;
  /** Loaded only in the client's thread. */
  readonly loadClient: () => Promise<ClientRun>;
}

export const SMALL_SERVER = 'small server';

const PACKAGES = new URL('../../../node_modules/', import.meta.url);

/** Of an installed package. Many do not export their `package.json`. */
export function versionOf(name: string): string {
  const text = readFileSync(new URL(`${name}/package.json`, PACKAGES), 'utf8');
  const { version } = JSON.parse(text) as { readonly version: string };
  return version;
}

/** A client as the table shows it. */
export function packageOf(name: string): string {
  return `${name} ${versionOf(name)}`;
}
