/**
 * The Lua scripts that run in the Redis server, one atomic script for each operation.
 *
 * A binding is a string `origin generation createdAt expiresAt machine` at a key of its own. Three
 * sorted sets, one for each origin in {@link EVICTION_ORDER}, hold the session keys by expiry: they
 * give the counts, the order of eviction, and the order of a listing. A key is in one of them at
 * most, with the expiry of its binding.
 *
 * The expiry in the binding decides. The server's own expiry of each key comes a margin later, and
 * only empties a database that has no clean-up. Times are the server's in whole ms, unless ARGV[1]
 * is a time. They leave as durations, because the caller's clock may be wrong. Every script returns
 * a list.
 *
 * The scripts use plain EVAL and the commands of Redis 6.2, so that compatible servers work too. An
 * error such as `READONLY` or `OOM` comes from the first command that writes, before anything has
 * changed.
 */
import { createHash } from 'node:crypto';
import { EVICTION_ORDER } from '../store.ts';

export interface Script {
  readonly text: string;
  /** The server's name for a loaded script. */
  readonly sha: string;
}

/** How long a binding outlives its expiry in a database that has no clean-up. */
const NATIVE_MARGIN_MS = 60_000;
/**
 * More than one write can add, and still a short script after the bound was lowered by a million.
 */
const MAX_EVICTED_PER_WRITE = 20;

const NOW = `
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
`;

/** The default form of a large number has an exponent. */
const WHOLE = `
local function whole(number)
  return string.format('%.0f', number)
end
`;

/** A later version may append fields, which are ignored; an invalid binding counts as absent. */
const BINDING = `
local RANKS = { copied = 0, adopted = 1, learned = 2 }

local function parse(text)
  if not text then return nil end
  local origin, generation, created_at, expires_at, machine =
    string.match(text, '^(%l+) (%d+) (%-?%d+) (%d+) ([a-z0-9]+)')
  if not origin or not RANKS[origin] then return nil end
  return { origin = origin, generation = tonumber(generation), created_at = tonumber(created_at),
    expires_at = tonumber(expires_at), machine = machine }
end

local function format(binding, created_at, expires_at)
  return table.concat({ binding.origin, whole(binding.generation), whole(created_at),
    whole(expires_at), binding.machine }, ' ')
end

local function describe(binding)
  return format(binding, now - binding.created_at, binding.expires_at - now)
end
`;

/** `evicted` collects the session keys that were removed. Needs `prefix`, `indexes` and `now`. */
const MAKE_ROOM = `
local function remove(index, session)
  redis.call('DEL', prefix .. session)
  redis.call('ZREM', index, session)
end

local function remove_expired(most)
  local removed = 0
  for _, index in ipairs(indexes) do
    if removed >= most then break end
    local sessions = redis.call('ZRANGEBYSCORE', index, '-inf', whole(now), 'LIMIT', 0, most - removed)
    for _, session in ipairs(sessions) do
      remove(index, session)
      evicted[#evicted + 1] = session
    end
    removed = removed + #sessions
  end
  return removed
end

local function evict(index, count)
  if count <= 0 then return 0 end
  local sessions = redis.call('ZRANGE', index, 0, count - 1)
  for _, session in ipairs(sessions) do
    remove(index, session)
    evicted[#evicted + 1] = session
  end
  return #sessions
end

local function excess()
  local total = 0
  for _, index in ipairs(indexes) do total = total + redis.call('ZCARD', index) end
  return total - max_sessions
end

-- What has expired goes before what is alive.
local function make_room(most)
  local adopted = index_of.adopted
  local room = most - evict(adopted, math.min(redis.call('ZCARD', adopted) - adopted_cap, most))
  if excess() <= 0 then return most - room end
  room = room - remove_expired(math.min(excess(), room))
  for _, index in ipairs(indexes) do
    room = room - evict(index, math.min(excess(), room))
  end
  return most - room
end
`;

/** From key FIRST on: the sorted sets, in the order of eviction. */
function indexesFrom(first: number): string {
  const keys = EVICTION_ORDER.map((_, place) => `KEYS[${first + place}]`);
  const byOrigin = EVICTION_ORDER.map((origin, place) => `${origin} = KEYS[${first + place}]`);
  return `
local indexes = { ${keys.join(', ')} }
local index_of = { ${byOrigin.join(', ')} }
`;
}

/**
 * `applyWrite` of rules.ts, and the bounds. KEYS: binding, indexes. ARGV: now, maximum age, maximum
 * number of sessions, of adopted ones, kind, TTL, Machine, origin, generation, age, Machine before.
 * Returns whether the write has taken effect and the current binding, then the session keys
 * evicted.
 */
export const WRITE = script(`${WHOLE}${NOW}${BINDING}${indexesFrom(2)}
local max_age, max_sessions, adopted_cap = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local kind, slid, machine, origin = ARGV[5], now + ARGV[6], ARGV[7], ARGV[8]
local prefix, session = string.sub(KEYS[1], 1, -33), string.sub(KEYS[1], -32)
local evicted = {}
${MAKE_ROOM}
local function stronger(one, other)
  if RANKS[one] >= RANKS[other] then return one end
  return other
end

local function within_max_age(expires_at, created_at)
  if max_age > 0 then return math.min(expires_at, created_at + max_age) end
  return expires_at
end

local function bind(machine, origin, generation, created_at, expires_at)
  return { machine = machine, origin = origin, generation = generation, created_at = created_at,
    expires_at = within_max_age(expires_at, created_at) }
end

local text = redis.call('GET', KEYS[1])
local found = parse(text)
local current = found
if found and found.expires_at <= now then current = nil end

local function slide(origin)
  local later = math.max(current.expires_at, slid)
  return bind(current.machine, origin, current.generation, current.created_at, later)
end

local after, has_taken_effect = current, false

if kind == 'claim' then
  if not current then
    after, has_taken_effect = bind(machine, origin, 1, now, slid), true
  elseif current.machine == machine then
    after, has_taken_effect = slide(stronger(current.origin, origin)), true
  end
elseif kind == 'upsert' then
  local generation, age = tonumber(ARGV[9]), tonumber(ARGV[10])
  if not current then
    after, has_taken_effect = bind(machine, origin, generation, now - age, slid), true
  else
    local is_same_owner = current.machine == machine
    local is_outdated = current.generation > generation or
      (current.generation == generation and not is_same_owner and current.origin ~= 'copied')
    if not is_outdated then
      if is_same_owner then origin = stronger(current.origin, origin) end
      after, has_taken_effect = bind(machine, origin, generation, current.created_at, slid), true
    end
  end
elseif kind == 'rebind' then
  if current and current.machine == ARGV[11] then
    has_taken_effect = true
    if machine == ARGV[11] then after = slide(current.origin)
    else after = bind(machine, origin, current.generation + 1, current.created_at, slid) end
  end
elseif kind == 'touch' then
  if current then after, has_taken_effect = slide(current.origin), true end
elseif kind == 'expireWithin' then
  if current then
    has_taken_effect = true
    if slid < current.expires_at then
      after = bind(current.machine, current.origin, current.generation, current.created_at, slid)
      after.expires_at = slid
    end
  end
elseif kind == 'delete' then
  if current and (machine == '' or machine == current.machine) then
    after, has_taken_effect = nil, true
  end
else
  return redis.error_reply('ERR no such write: ' .. kind)
end

-- Longer than any key that was indexed before it, and seldom written.
local function keep_index(index, keep_ms)
  if redis.call('PTTL', index) < keep_ms then
    redis.call('PEXPIRE', index, whole(keep_ms + ${NATIVE_MARGIN_MS}))
  end
end

local function store(binding, written)
  local keep_ms = math.max(binding.expires_at - now, 0) + ${NATIVE_MARGIN_MS}
  redis.call('SET', KEYS[1], written, 'PX', whole(keep_ms))
  local index = index_of[binding.origin]
  redis.call('ZADD', index, whole(binding.expires_at), session)
  keep_index(index, keep_ms)
  if found and found.origin == binding.origin then return end
  -- Without a binding it may be in any: the server may have removed that one by itself.
  for origin, other in pairs(index_of) do
    if origin ~= binding.origin then redis.call('ZREM', other, session) end
  end
end

if after then
  local written = format(after, after.created_at, after.expires_at)
  if written ~= text then
    store(after, written)
    make_room(${MAX_EVICTED_PER_WRITE})
  end
elseif current then
  remove(index_of[current.origin], session)
end

local reply = has_taken_effect and '1' or '0'
if after then reply = reply .. ' ' .. describe(after) end
table.insert(evicted, 1, reply)
return evicted
`);

/**
 * KEYS: indexes. ARGV: now, maximum number of sessions, of adopted ones, the prefix of a session
 * key, how many to remove at most. Returns the number removed, then their session keys.
 */
export const CLEANUP = script(`${WHOLE}${NOW}${indexesFrom(1)}
local max_sessions, adopted_cap = tonumber(ARGV[2]), tonumber(ARGV[3])
local prefix, most, evicted = ARGV[4], tonumber(ARGV[5]), {}
${MAKE_ROOM}
local removed = remove_expired(most)
removed = removed + make_room(most - removed)
table.insert(evicted, 1, whole(removed))
return evicted
`);

/** KEYS: indexes. ARGV: now. Returns the number of bindings, and how many of these have expired. */
export const COUNT = script(`${WHOLE}${NOW}${indexesFrom(1)}
local total, expired = 0, 0
for _, index in ipairs(indexes) do
  total = total + redis.call('ZCARD', index)
  expired = expired + redis.call('ZCOUNT', index, '-inf', whole(now))
end
return { total, expired }
`);

/**
 * KEYS: index. ARGV: now, cursor, page size, the prefix of a session key. Returns the next cursor,
 * then each binding with its session key before it.
 */
export const PAGE = script(`${WHOLE}${NOW}${BINDING}
local page = redis.call('ZSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
local reply = { page[1] }
for at = 1, #page[2], 2 do
  local session = page[2][at]
  local found = parse(redis.call('GET', ARGV[4] .. session))
  if found and found.expires_at > now then reply[#reply + 1] = session .. ' ' .. describe(found) end
end
return reply
`);

export const ALL_SCRIPTS: readonly Script[] = [WRITE, CLEANUP, COUNT, PAGE];

function script(text: string): Script {
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}
