/**
 * `/`: the status page for browsers.
 *
 * ```
 * GET  /   the page; a script in it reads it again every two seconds
 * POST /   the form of the page without JavaScript: token and session id in the body, never in a URL
 * ```
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { formatDuration } from '../duration.ts';
import { splitOwnerHint } from '../protocols/owner-hint.ts';
import { parseTypedSessionId, sessionKeyOf, type Binding } from '../session.ts';
import { readText } from './input.ts';
import { respond, type Access, type AdminCall } from './router.ts';
import type { SessionsParts } from './sessions.ts';
import type { PageAssets } from './status-page-html.ts';
import type { StatusParts } from './status.ts';

export interface StatusPageParts extends StatusParts, Pick<SessionsParts, 'store' | 'clock'> {
  /** `ADMIN_TOKEN`. */
  readonly token: string | undefined;
}

export async function showPage(call: AdminCall, parts: StatusPageParts): Promise<void> {
  await respondPage(call.response, parts, call.access, undefined);
}

/** The longest session id (`session.ts`), escaped, and the token. */
const MAX_FORM_BYTES = 131_072;

export async function handleForm(call: AdminCall, parts: StatusPageParts): Promise<void> {
  const form = new URLSearchParams(await readText(call.request, parts.clock, MAX_FORM_BYTES));
  const access = call.accessWith(form.get('token')?.trim() ?? '');
  const id = form.get('id')?.trim() ?? '';
  const result = access === 'full' ? await lookUp(id, parts) : 'The token is wrong.';
  await respondPage(call.response, parts, access, result);
}

const NOT_FOUND = 'No such session: it was never bound, has expired, or was deleted.';

/** As the script of the page does. */
async function lookUp(typed: string, { store, clock }: StatusPageParts): Promise<string> {
  if (typed === '') return '';
  const id = parseTypedSessionId(typed);
  if (id === undefined) return NOT_FOUND;
  const withoutHint = splitOwnerHint(id)?.id;
  const ids = withoutHint === undefined ? [id] : [id, withoutHint];
  const found = await Promise.all(ids.map(async (each) => store.lookup(sessionKeyOf(each))));
  if (found.includes('unknown')) return 'The session store fails: try again.';
  const bindings = found.filter((each) => typeof each === 'object');
  return bindings.map((binding) => describe(binding, clock.now())).join(' ') || NOT_FOUND;
}

function describe(
  { key, machine, origin, generation, createdAt, expiresAt }: Binding,
  now: number,
): string {
  const [age, left] = [now - createdAt, expiresAt - now].map(formatDuration);
  return `Session ${key.slice(0, 8)}… belongs to Machine ${machine} (${origin}, generation ${generation}), is ${age ?? ''} old and expires in ${left ?? ''} unless it is used.`;
}

async function respondPage(
  response: ServerResponse,
  parts: StatusPageParts,
  access: Access,
  result: string | undefined,
): Promise<void> {
  // Loaded with the first page: most sidecars never show one.
  const [{ renderPage }, assets, status] = await Promise.all([
    import('./status-page-html.ts'),
    readAssets(),
    parts.status(access === 'full'),
  ]);
  const page = renderPage({
    ...{ status, assets, result },
    access: parts.token === undefined ? undefined : access,
  });
  response.setHeader('content-security-policy', policyFor(assets));
  response.setHeader('x-content-type-options', 'nosniff');
  response.setHeader('referrer-policy', 'no-referrer');
  respond(response, 200, 'text/html; charset=utf-8', page);
}

/** They lie beside this file, and in `dist` beside its bundle. */
async function readAssets(): Promise<PageAssets> {
  const read = (name: string): Promise<string> => readFile(new URL(name, import.meta.url), 'utf8');
  const [css, script] = await Promise.all([
    read('./status-page.css'),
    read('./status-page.browser.js'),
  ]);
  return { css, script };
}

/** Nothing from outside, no other script, no frame around the page. The icon is a `data:` URL. */
function policyFor({ css, script }: PageAssets): string {
  return [
    "default-src 'none'",
    `script-src ${sourceOf(script)}`,
    `style-src ${sourceOf(css)}`,
    'img-src data:',
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
}

function sourceOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}
