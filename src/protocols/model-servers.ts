/** Servers of language models and demos of them: Gradio, OpenAI's Responses, caches of prompts. */
import { JSON_TYPE } from './heads.ts';
import { mayHoldJsonId, readJsonId, readJsonIds } from './json-id.ts';
import type { BodyDiscovery, Protocol } from './protocol.ts';
import { isOfForm } from './url-sessions.ts';

const COMMON = { errorForm: 'problem', endsBy: 'expiry', isMcp: false } as const;
const JSON_BODY = { contentType: JSON_TYPE, begin: /[\s{]/ } as const;

const EVENT_ID = '[\\w-]{16,64}';
const isEventId = isOfForm(EVENT_ID);

/**
 * Gradio: a page's `session_hash` names its state and the queue of its events. A call of the API gets an
 * `event_id`, which names the stream of its result.
 */
function gradioPage(heartbeat: string): Protocol {
  return {
    ...COMMON,
    name: 'gradio',
    idLocations: [
      { in: 'query', name: 'session_hash', mayCarryHint: false },
      { in: 'path', pattern: new RegExp(`${heartbeat}(\\w{8,64})$`, 'd'), mark: heartbeat },
      {
        in: 'body',
        pointer: ['session_hash'],
        when: ({ method, target }) =>
          method === 'POST' &&
          (target.includes('/gradio_api/') || /\/queue\/join\/?(?:\?|$)/.test(target)),
      },
    ],
    mintedBy: 'client',
    discoveries: [],
  };
}

const GRADIO_CALL: Protocol = {
  ...COMMON,
  name: 'gradio-call',
  idLocations: [
    {
      in: 'path',
      pattern: new RegExp(`/call/(?:v2/)?[^/]+/(${EVENT_ID})$`, 'd'),
      mark: '/call/',
    },
  ],
  mintedBy: 'app',
  discoveries: [
    {
      ...JSON_BODY,
      from: 'body',
      mark: '/call/',
      mayRevealId: ({ method, target }) =>
        method === 'POST' && /\/call\/(?:v2\/)?[^/?]+\/?(?:\?|$)/.test(target),
      read: (body) => readJsonIds(body, [['event_id']]).filter(isEventId),
    },
  ],
};

export const GRADIO: readonly Protocol[] = [gradioPage('/heartbeat/'), GRADIO_CALL];

/** For `auto`: other apps have heartbeats too. Those of Gradio before 5 only end a page's state. */
export const GRADIO_SHAPE: readonly Protocol[] = [
  gradioPage('/gradio_api/heartbeat/'),
  { ...GRADIO_CALL, isGuess: true },
];

const RESPONSE_PREFIX = 'resp_';
/** In the first event of a stream. */
const RESPONSE_ID = ['response', 'id'];

const createsResponse: BodyDiscovery['mayRevealId'] = ({ method, target }) =>
  method === 'POST' && /\/responses\/?(?:\?|$)/.test(target);

function asResponseId(text: string | undefined): string | undefined {
  return text?.startsWith(RESPONSE_PREFIX) === true ? text : undefined;
}

/**
 * OpenAI's Responses API: each response has an id, which the next request names as `previous_response_id`. With
 * `stream`, the first event holds the response.
 */
export const RESPONSES: Protocol = {
  ...COMMON,
  name: 'responses',
  idLocations: [
    { in: 'path', pattern: /\/responses\/(resp_[\w-]+)(?:\/|$)/d, mark: '/responses/' },
    { in: 'body', pointer: ['previous_response_id'], when: createsResponse },
  ],
  mintedBy: 'app',
  discoveries: [
    {
      ...JSON_BODY,
      from: 'body',
      mark: '/responses',
      withinSession: true,
      mayRevealId: createsResponse,
      read: (body) => asResponseId(readJsonId(body, ['id'])),
    },
    {
      from: 'sse-message',
      mark: '/responses',
      withinSession: true,
      mayRevealId: createsResponse,
      mayHold: (text) => mayHoldJsonId(text, RESPONSE_ID),
      read: (data) => asResponseId(readJsonId(data, RESPONSE_ID)),
    },
  ],
};

const isPost = ({ method }: { readonly method: string }): boolean => method === 'POST';

/** A cached prompt only saves time: if its Machine can't be had, any other answers without the cache. */
export const KV_CACHE: Protocol = {
  ...COMMON,
  name: 'kv-cache',
  idLocations: [
    { in: 'body', pointer: ['prompt_cache_key'], when: isPost },
    { in: 'body', pointer: ['user'], when: isPost },
  ],
  mintedBy: 'client',
  discoveries: [],
  isSoft: true,
};
