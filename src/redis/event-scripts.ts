import { script } from './connection.ts';

// The channels of a shard in Redis, each script one atomic step. All keys of a shard have its hash tag; P is what they
// begin with.
//   P shard      hash: epoch, forgotten (highest number of a channel forgotten in it), bytes (of all channels)
//   P channels   sorted set: channel -> ms at which something was last appended
//   P interest   sorted set: channel -> ms until which somebody wants to know what happens in it
//   P since      sorted set: channel -> ms at which that interest began, and a half if readers knew then of all holes
//   P w:WRITER   number of the last batch of a writer, so that a batch that is sent again adds nothing
//   P c:CHANNEL  hash: epoch, base, last, bytes, oldest (ms), skipped (there is a hole before what is kept next)
//   P s:CHANNEL  stream: entries EPOCH-SEQ with t(ype), a(t), d(ata), k(ept, ms). A number without entry is a hole
//   P p:CHANNEL  hash: producer -> its highest number and when it was heard

/**
 * ARGV of all: epoch that the caller knows, 1 if it has seen this shard before, what channels for wake-ups begin with,
 * channels that a shard may have. Answers `emptied` for a shard that was seen and is not there any more.
 */
const prelude = `
local P = string.sub(KEYS[1], 1, -6)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known, wakes, maxChannels = tonumber(ARGV[1]), ARGV[3], tonumber(ARGV[4])
local function int(n) return string.format('%.0f', n) end
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '')
if not epoch and ARGV[2] == '1' then return {'emptied'} end
if not epoch or epoch < known then
  epoch = known
  redis.call('HSET', KEYS[1], 'epoch', int(epoch))
end

local found = {}
local function forgotten() return tonumber(redis.call('HGET', KEYS[1], 'forgotten') or '0') end
local function isWanted(channel)
  local till = redis.call('ZSCORE', P .. 'interest', channel)
  return till and tonumber(till) > now
end

local function find(channel)
  local m = found[channel]
  if m then return m end
  local h = redis.call('HMGET', P .. 'c:' .. channel, 'epoch', 'base', 'last', 'bytes', 'oldest', 'skipped')
  if not h[1] then return nil end
  m = {base = tonumber(h[2]), last = tonumber(h[3]), bytes = tonumber(h[4]), oldest = tonumber(h[5] or ''), skipped = h[6] == '1'}
  if tonumber(h[1]) ~= epoch then
    m.base, m.last = 0, 0
    redis.call('HSET', P .. 'c:' .. channel, 'epoch', int(epoch), 'base', 0, 'last', 0)
  end
  found[channel] = m
  return m
end

local function save(channel, m)
  redis.call('HSET', P .. 'c:' .. channel, 'epoch', int(epoch), 'base', int(m.base), 'last', int(m.last),
    'bytes', int(m.bytes), 'oldest', m.oldest and int(m.oldest) or '', 'skipped', m.skipped and '1' or '')
end

-- A position of a forgotten channel is below every number that a channel here will have: it is never taken for a new one.
local function forget(channel)
  local h = redis.call('HMGET', P .. 'c:' .. channel, 'last', 'bytes')
  if h[1] then
    if tonumber(h[1]) + 1 > forgotten() then redis.call('HSET', KEYS[1], 'forgotten', int(tonumber(h[1]) + 1)) end
    redis.call('HINCRBY', KEYS[1], 'bytes', int(-tonumber(h[2])))
  end
  redis.call('DEL', P .. 'c:' .. channel, P .. 's:' .. channel, P .. 'p:' .. channel)
  redis.call('ZREM', P .. 'channels', channel)
  redis.call('ZREM', P .. 'interest', channel)
  redis.call('ZREM', P .. 'since', channel)
end

local function forgetOldest()
  for _, channel in ipairs(redis.call('ZRANGE', P .. 'channels', 0, 15)) do
    if not found[channel] and not isWanted(channel) then
      forget(channel)
      return true
    end
  end
  return false
end

local function open(channel)
  local m = find(channel)
  if m then return m end
  if redis.call('ZCARD', P .. 'channels') >= maxChannels then forgetOldest() end
  local base = forgotten()
  m = {base = base, last = base, bytes = 0, skipped = false}
  found[channel] = m
  save(channel, m)
  redis.call('ZADD', P .. 'channels', now, channel)
  return m
end

-- Somebody wants to know what happens here, for ttl ms. Answers since when that is so without a break.
local function want(channel, ttl)
  local since = isWanted(channel) and redis.call('ZSCORE', P .. 'since', channel)
  local isKnown = find(channel)
  local m = open(channel)
  if not since then
    -- What was skipped before anybody has a place here is nobody's loss.
    since = string.format('%.1f', (m.skipped or not isKnown) and now + 0.5 or now)
    redis.call('ZADD', P .. 'since', since, channel)
    redis.call('PUBLISH', wakes .. 'interest', since .. ' ' .. channel)
    if m.skipped then
      m.skipped = false
      m.last = m.last + 1
      save(channel, m)
    end
  end
  redis.call('ZADD', P .. 'interest', 'GT', now + ttl, channel)
  return since
end

local function tell(channel, m)
  if isWanted(channel) then redis.call('PUBLISH', wakes .. 'at:' .. channel, int(epoch) .. ' ' .. int(m.last)) end
end
`;

/**
 * Appends a batch. ARGV: writer, number of the batch, events and bytes that a channel may have, ms that its events and
 * those of commands may have, bytes of the shard, producers of a channel; then for each step: what, channel, type, at,
 * data, producer, its number. `e`: an event. `o`: one of those that a channel begins with, if it is still empty (without
 * a type: a hole). `c`: the end of a command, if the last number of its channel is that of the producer (with a producer:
 * behind a hole).
 * `h`: a hole. `s`: something was skipped, as nobody wanted it. Answers the last number of each channel.
 */
export const appendScript = script(`${prelude}
local writer, batch = P .. 'w:' .. ARGV[5], tonumber(ARGV[6])
local maxEvents, maxBytes, maxAge, commandAge = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local maxTotal, maxProducers = tonumber(ARGV[11]), tonumber(ARGV[12])
local order, touched, wasEmpty = {}, {}, {}
local function touch(channel, m)
  if not touched[channel] then
    touched[channel] = m
    order[#order + 1] = channel
  end
end

local function isNew(channel, producer, seq)
  local key = P .. 'p:' .. channel
  local heard = redis.call('HGET', key, producer)
  if heard and tonumber(string.match(heard, '^%d+')) >= tonumber(seq) then return false end
  redis.call('HSET', key, producer, seq .. ' ' .. int(now))
  if not heard and redis.call('HLEN', key) > maxProducers then
    local all, oldest, at = redis.call('HGETALL', key), nil, nil
    for i = 1, #all, 2 do
      local heardAt = tonumber(string.match(all[i + 1], '%d+$'))
      if all[i] ~= producer and (not at or heardAt < at) then oldest, at = all[i], heardAt end
    end
    if oldest then redis.call('HDEL', key, oldest) end
  end
  return true
end

local function add(channel, m, kind, at, data)
  if m.skipped then
    m.skipped = false
    m.last = m.last + 1
  end
  m.last = m.last + 1
  redis.call('XADD', P .. 's:' .. channel, int(epoch) .. '-' .. int(m.last), 't', kind, 'a', at, 'd', data, 'k', int(now))
  m.bytes = m.bytes + #data + 100
  m.oldest = m.oldest or now
  redis.call('HINCRBY', KEYS[1], 'bytes', #data + 100)
end

local function trim(channel, m)
  local stream = P .. 's:' .. channel
  local age = string.find(channel, '^[^/]*/command%.') and commandAge or maxAge
  local count = redis.call('XLEN', stream)
  while count > 0 and (count > maxEvents or m.bytes > maxBytes or (m.oldest and m.oldest < now - age)) do
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', math.max(2, math.min(64, count - maxEvents + 1)))
    local ids, bytes = {}, 0
    m.oldest = nil
    for _, entry in ipairs(oldest) do
      local kept = tonumber(entry[2][8])
      if count <= maxEvents and m.bytes <= maxBytes and kept >= now - age then
        m.oldest = kept
        break
      end
      ids[#ids + 1] = entry[1]
      count = count - 1
      m.bytes = m.bytes - #entry[2][6] - 100
      bytes = bytes + #entry[2][6] + 100
    end
    if #ids > 0 then redis.call('XDEL', stream, unpack(ids)) end
    redis.call('HINCRBY', KEYS[1], 'bytes', -bytes)
    if #ids == #oldest and count > 0 then
      local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
      m.oldest = first and tonumber(first[2][8])
    end
  end
end

if tonumber(redis.call('GET', writer) or '0') < batch then
  redis.call('SET', writer, int(batch), 'PX', 600000)
  for i = 13, #ARGV, 7 do
    local what, channel, producer = ARGV[i], ARGV[i + 1], ARGV[i + 5]
    if what == 's' then
      local m = find(channel)
      if m and isWanted(channel) then
        m.last = m.last + 1
        touch(channel, m)
      elseif m and not m.skipped then
        m.skipped = true
        save(channel, m)
      end
    elseif what == 'h' then
      local m = find(channel)
      if m then
        m.last = m.last + 1
        touch(channel, m)
      end
    elseif what == 'c' then
      local m = find(channel)
      if m and m.last == tonumber(ARGV[i + 6]) then
        if producer ~= '' then m.last = m.last + 1 end
        add(channel, m, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
        touch(channel, m)
      end
    elseif producer == '' or isNew(channel, producer, ARGV[i + 6]) then
      local m = open(channel)
      if wasEmpty[channel] == nil then wasEmpty[channel] = m.last == m.base end
      if what ~= 'o' or wasEmpty[channel] then
        if ARGV[i + 2] == '' then m.last = m.last + 1 else add(channel, m, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]) end
        touch(channel, m)
      end
    end
  end
  for i, channel in ipairs(order) do
    local m = touched[channel]
    trim(channel, m)
    save(channel, m)
    redis.call('ZADD', P .. 'channels', now + i / 1000, channel)
    tell(channel, m)
  end
  found = {}
  while redis.call('ZCARD', P .. 'channels') > maxChannels and forgetOldest() do end
  local tries = 16
  while tries > 0 and tonumber(redis.call('HGET', KEYS[1], 'bytes') or '0') > maxTotal and forgetOldest() do tries = tries - 1 end
else
  for i = 13, #ARGV, 7 do
    local m = find(ARGV[i + 1])
    if m then touch(ARGV[i + 1], m) end
  end
end
local answer = {'ok', epoch, now}
for _, channel in ipairs(order) do
  answer[#answer + 1] = channel
  answer[#answer + 1] = touched[channel].last
end
return answer
`);

/**
 * Reads what comes after a position. ARGV: channel, ms for which somebody wants to know what happens there (0: nobody
 * new), epoch and number of the position, events and bytes to read. Answers base and last number of the channel, since
 * when it is wanted, and entries: id, type, at, data.
 */
export const lookScript = script(`${prelude}
local channel, ttl, limit, maxBytes = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[9]), tonumber(ARGV[10])
local since = '0'
if ttl > 0 then since = want(channel, ttl) end
local m = find(channel)
local base, last = forgotten(), nil
if m then base, last = m.base, m.last else last = base end
local from = ARGV[7] == '0' and '-' or ('(' .. ARGV[7] .. '-' .. ARGV[8])
local entries, bytes = {}, 0
while m and limit > 0 and bytes < maxBytes do
  local some = redis.call('XRANGE', P .. 's:' .. channel, from, '+', 'COUNT', math.min(limit, 16))
  if #some == 0 then break end
  for _, entry in ipairs(some) do
    local values = entry[2]
    entries[#entries + 1] = entry[1]
    entries[#entries + 1] = values[2]
    entries[#entries + 1] = values[4]
    entries[#entries + 1] = values[6]
    bytes = bytes + #values[6]
    from = '(' .. entry[1]
  end
  limit = limit - #some
end
return {'ok', epoch, now, base, last, since, entries}
`);

/**
 * What a node asks for regularly. ARGV: since when it wants to hear of new interest, ms for which it wants its own
 * channels; then these. Answers interest that is new (channel, since when) and the last number of its channels.
 */
export const sweepScript = script(`${prelude}
for _, channel in ipairs(redis.call('ZRANGEBYSCORE', P .. 'interest', '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('ZREM', P .. 'interest', channel)
  redis.call('ZREM', P .. 'since', channel)
end
local lasts = {}
for i = 7, #ARGV do
  want(ARGV[i], tonumber(ARGV[6]))
  lasts[#lasts + 1] = find(ARGV[i]).last
end
local fresh = redis.call('ZRANGEBYSCORE', P .. 'since', ARGV[5], '+inf', 'WITHSCORES', 'LIMIT', 0, 20000)
return {'ok', epoch, now, fresh, lasts}
`);

/**
 * Forgets channels in which nothing happened for long. ARGV: ms for channels of commands and empty ones, ms for the
 * others, how many to look at, how many to leave out. Answers how many it looked at and how many it forgot.
 */
export const pruneScript = script(`${prelude}
local commandAge, maxAge = tonumber(ARGV[5]), tonumber(ARGV[6])
local least = now - math.min(commandAge, maxAge)
local quiet = redis.call('ZRANGEBYSCORE', P .. 'channels', '-inf', least, 'WITHSCORES', 'LIMIT', ARGV[8], ARGV[7])
local gone = 0
for i = 1, #quiet, 2 do
  local channel = quiet[i]
  local isShort = string.find(channel, '^[^/]*/command%.') or redis.call('EXISTS', P .. 's:' .. channel) == 0
  if tonumber(quiet[i + 1]) < now - (isShort and commandAge or maxAge) and not isWanted(channel) then
    forget(channel)
    gone = gone + 1
  end
end
return {'ok', epoch, now, #quiet / 2, gone}
`);

/** The epoch of everything. KEYS: where it is kept. ARGV: the least that it may be. A new one is never below the time. */
export const epochScript = script(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epoch = tonumber(redis.call('GET', KEYS[1]) or '0')
if epoch < tonumber(ARGV[1]) then
  epoch = math.max(tonumber(ARGV[1]), now)
  redis.call('SET', KEYS[1], string.format('%.0f', epoch))
end
return epoch
`);
