import { script } from './connection.ts';

// One script carries out a list of operations, each on one client of one shard. ARGV[1] is the root of all keys, then
// come the operations: name, shard, and the arguments that are named at the head of each function below.
//
// Of a client <c> = <tenant>/<client id>, in its shard:
//   c:<c>  hash   what is known of it: #n #b commands and bytes that wait, #p newest position, @i @e ... who holds it;
//                 <id> a command as it came, <id>. its state, <id>+ what it has replaced, =<key> the id with that key
//   m:<c>  zset   ids of commands that are not terminal, by position
//   l:<c>  zset   ids of all commands, by position
//   k:<c>/<key>   zset of ids with that coalesce key that are not terminal, by position
// Of a shard:
//   due    zset   <c>/<id> of commands that are not terminal, by when somebody has to look at them
//   ended  zset   <c>/<id> of terminal commands, by their end
//   p:<tenant>    zset of <client id>/<id>, not terminal, by position;  a:<tenant> the same of all commands
//   lease:<instance>   there while the lease of that node lives
//   i:<id>         string, <c>, in the shard of the id
//
// A state is packed: code, at, due, position, accepted (doubles), size, token, journal, coalesce key, idempotency key,
// and then, of a terminal one, its result or error.

/** Where the numbers of a packed state begin, for those who read it outside. */
export const stateLayout = { code: 0, atMs: 1, dueAtMs: 9, position: 17, acceptedAtMs: 25, journal: 45 } as const;

const lua = `
local root = ARGV[1]
local time = redis.call('TIME')
local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
local firstTerminal = 6
local queued, cancelled = 1, 9
local layout = '>BddddI4dHc0Hc0Hc0'

local function int(number) return string.format('%.0f', number) end

local function pack(s)
  return struct.pack(layout, s.code, s.at, s.due, s.position, s.accepted, s.size, s.token,
    #s.journal, s.journal, #s.coalesce, s.coalesce, #s.idem, s.idem) .. s.tail
end

local function unpackState(text)
  local s, rest = {}, 0
  s.code, s.at, s.due, s.position, s.accepted, s.size, s.token, s.journal, s.coalesce, s.idem, rest =
    struct.unpack(layout, text)
  s.tail = string.sub(text, rest)
  return s
end

local leases = {}
local function lives(base, instance)
  local key = base .. 'lease:' .. instance
  if leases[key] == nil then leases[key] = redis.call('EXISTS', key) == 1 end
  return leases[key]
end

-- Who holds the client: instance and epoch, or nothing.
local function holder(base, instance, epoch, released)
  if instance and not released and lives(base, instance) then return instance, epoch end
end

-- The answer to a write that names another hold than there is; nothing if it is the right one.
local function misheld(word, base, hold, epoch, instance, heldEpoch, released)
  if hold == '' then return end
  local nowBy, nowEpoch = holder(base, instance, heldEpoch, released)
  if hold == 'nobody' then
    if not nowBy then return end
  elseif nowBy == hold and nowEpoch == epoch then return end
  return { word, nowBy or '', nowEpoch or '' }
end

-- Takes a command out of all that is about pending ones.
local function close(base, owner, id, s, code, at, tail)
  local tenant, client = string.match(owner, '^([^/]*)/(.*)$')
  s.code, s.at, s.tail = code, at, tail
  redis.call('HSET', base .. 'c:' .. owner, id .. '.', pack(s))
  redis.call('ZREM', base .. 'm:' .. owner, id)
  redis.call('ZREM', base .. 'p:' .. tenant, client .. '/' .. id)
  redis.call('ZREM', base .. 'due', owner .. '/' .. id)
  redis.call('ZADD', base .. 'ended', at, owner .. '/' .. id)
  if s.coalesce ~= '' then redis.call('ZREM', base .. 'k:' .. owner .. '/' .. s.coalesce, id) end
end

local function addTo(list, hash, id)
  local both = redis.call('HMGET', hash, id, id .. '.')
  if both[1] and both[2] then
    list[#list + 1] = id
    list[#list + 1] = both[1]
    list[#list + 1] = both[2]
  end
end

local ops = {}

-- owner, id, bytes, size, idempotency key, coalesce key, now, due, journal, hold, epoch of the hold, most commands, most
-- bytes, token, after position ('': replaces nothing), ids that may be replaced, tail of the replaced, shard of the id
-- ('': a cluster, where the caller has seen to that), 1 if the id may be taken from who had it
ops.add = function(base, a)
  local owner, id, bytes, size, idem, coalesce = ARGV[a], ARGV[a + 1], ARGV[a + 2], tonumber(ARGV[a + 3]), ARGV[a + 4], ARGV[a + 5]
  local now, due, journal, hold, epoch = tonumber(ARGV[a + 6]), ARGV[a + 7], ARGV[a + 8], ARGV[a + 9], ARGV[a + 10]
  local maxCommands, maxBytes, token = tonumber(ARGV[a + 11]), tonumber(ARGV[a + 12]), tonumber(ARGV[a + 13])
  local after, named, tail, idShard, mayTake = ARGV[a + 14], ARGV[a + 15], ARGV[a + 16], ARGV[a + 17], ARGV[a + 18]
  local next = a + 19
  local hash = base .. 'c:' .. owner
  local f = redis.call('HMGET', hash, id .. '.', '=' .. idem, '#n', '#b', '#p', '@i', '@e', '@r')

  if f[1] and unpackState(f[1]).token == token then
    -- The same call again, after a lost answer.
    local mine = redis.call('HMGET', hash, id .. '.', id .. '+')
    local replaced = {}
    for old in string.gmatch(mine[2] or '', '[^,]+') do addTo(replaced, hash, old) end
    return { 'stored', mine[1], replaced }, next
  end
  local wrong = misheld('wrong-node', base, hold, epoch, f[6], f[7], f[8])
  if wrong then return wrong, next end
  local known = f[1] and id or (idem ~= '' and f[2])
  if known then
    local one = {}
    addTo(one, hash, known)
    if #one > 0 then return { 'existing', one[1], one[2], one[3] }, next end
  end

  local commands, waiting = tonumber(f[3] or 0), tonumber(f[4] or 0)
  local replaced, states = {}, {}
  if after ~= '' and coalesce ~= '' then
    local names = {}
    for name in string.gmatch(named, '[^,]+') do names[name] = true end
    local same = redis.call('ZRANGE', base .. 'k:' .. owner .. '/' .. coalesce, 0, -1, 'WITHSCORES')
    for i = 1, #same, 2 do
      if names[same[i]] or tonumber(same[i + 1]) > tonumber(after) then
        local s = unpackState(redis.call('HGET', hash, same[i] .. '.'))
        if names[same[i]] or s.journal == '' then
          replaced[#replaced + 1] = same[i]
          states[#states + 1] = s
          commands, waiting = commands - 1, waiting - s.size
        end
      end
    end
  end
  if commands >= maxCommands or waiting + size > maxBytes then
    return { 'full', int(commands), int(waiting + size) }, next
  end
  if idShard ~= '' then
    local key = root .. idShard .. '}:i:' .. id
    local other = redis.call('SET', key, owner, 'NX', 'GET')
    if other and other ~= owner then
      if mayTake ~= '1' then return { 'taken', other }, next end
      redis.call('SET', key, owner)
    end
  end

  local lost = {}
  for i, old in ipairs(replaced) do
    close(base, owner, old, states[i], cancelled, now, tail)
    addTo(lost, hash, old)
  end
  micros = math.max(micros + 1, tonumber(f[5] or 0) + 1)
  local position = int(micros)
  local state = pack({ code = queued, at = now, due = tonumber(due), position = micros, accepted = now, size = size,
    token = token, journal = journal, coalesce = coalesce, idem = idem, tail = '' })
  redis.call('HSET', hash, id, bytes, id .. '.', state, '#n', int(commands + 1), '#b', int(waiting + size), '#p', position)
  if idem ~= '' then redis.call('HSET', hash, '=' .. idem, id) end
  if #replaced > 0 then redis.call('HSET', hash, id .. '+', table.concat(replaced, ',')) end
  local tenant, client = string.match(owner, '^([^/]*)/(.*)$')
  redis.call('ZADD', base .. 'm:' .. owner, position, id)
  redis.call('ZADD', base .. 'l:' .. owner, position, id)
  redis.call('ZADD', base .. 'p:' .. tenant, position, client .. '/' .. id)
  redis.call('ZADD', base .. 'a:' .. tenant, position, client .. '/' .. id)
  redis.call('ZADD', base .. 'due', due, owner .. '/' .. id)
  if coalesce ~= '' then redis.call('ZADD', base .. 'k:' .. owner .. '/' .. coalesce, position, id) end
  return { 'stored', state, lost }, next
end

-- owner, journal, hold, epoch, number of marks, then id and due of each
ops.sent = function(base, a)
  local owner, journal, hold, epoch, count = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], tonumber(ARGV[a + 4])
  local next = a + 5 + 2 * count
  local hash = base .. 'c:' .. owner
  if hold ~= '' then
    local f = redis.call('HMGET', hash, '@i', '@e', '@r')
    local wrong = misheld('fenced', base, hold, epoch, f[1], f[2], f[3])
    if wrong then return wrong, next end
  end
  for i = a + 5, next - 2, 2 do
    local text = redis.call('HGET', hash, ARGV[i] .. '.')
    if text and string.byte(text) < firstTerminal then
      local s = unpackState(text)
      s.journal, s.due = journal, tonumber(ARGV[i + 1])
      redis.call('HSET', hash, ARGV[i] .. '.', pack(s))
      redis.call('ZADD', base .. 'due', ARGV[i + 1], owner .. '/' .. ARGV[i])
    end
  end
  return { 'done' }, next
end

-- owner, id, code, at, hold, epoch
ops.advance = function(base, a)
  local owner, id, code, at, hold, epoch = ARGV[a], ARGV[a + 1], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), ARGV[a + 4], ARGV[a + 5]
  local hash = base .. 'c:' .. owner
  local f = redis.call('HMGET', hash, id .. '.', '@i', '@e', '@r')
  local wrong = f[1] and misheld('fenced', base, hold, epoch, f[2], f[3], f[4])
  if wrong then return wrong, a + 6 end
  if f[1] and string.byte(f[1]) < code then
    redis.call('HSET', hash, id .. '.', struct.pack('>Bd', code, at) .. string.sub(f[1], 10))
  end
  return { 'done' }, a + 6
end

-- owner, id, code, at, tail, hold, epoch
ops.finish = function(base, a)
  local owner, id, code, at, tail, hold, epoch =
    ARGV[a], ARGV[a + 1], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), ARGV[a + 4], ARGV[a + 5], ARGV[a + 6]
  local hash = base .. 'c:' .. owner
  local f = redis.call('HMGET', hash, id .. '.', '#n', '#b', '@i', '@e', '@r')
  if not f[1] then return { 'none' }, a + 7 end
  local wrong = misheld('fenced', base, hold, epoch, f[4], f[5], f[6])
  if wrong then return wrong, a + 7 end
  if string.byte(f[1]) >= firstTerminal then return { 'was', f[1] }, a + 7 end
  local s = unpackState(f[1])
  close(base, owner, id, s, code, at, tail)
  redis.call('HSET', hash, '#n', int(tonumber(f[2]) - 1), '#b', int(tonumber(f[3]) - s.size))
  return { 'done' }, a + 7
end

-- owner, id
ops.get = function(base, a)
  local one = {}
  addTo(one, base .. 'c:' .. ARGV[a], ARGV[a + 1])
  return one, a + 2
end

-- owner, after, limit
ops.box = function(base, a)
  local owner, list = ARGV[a], {}
  local ids = redis.call('ZRANGE', base .. 'm:' .. owner, '(' .. ARGV[a + 1], '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[a + 2])
  for _, id in ipairs(ids) do addTo(list, base .. 'c:' .. owner, id) end
  return list, a + 3
end

-- which, now, limit: members of a set of the shard up to a score, with their scores, lowest first; how many there are
ops.upto = function(base, a)
  local key = base .. ARGV[a]
  local found = redis.call('ZRANGE', key, '-inf', ARGV[a + 1], 'BYSCORE', 'LIMIT', 0, ARGV[a + 2], 'WITHSCORES')
  return { redis.call('ZCARD', key), found }, a + 3
end

-- which, limit: members of a set of the shard with their scores, highest first
ops.newest = function(base, a)
  return redis.call('ZRANGE', base .. ARGV[a], 0, ARGV[a + 1] - 1, 'REV', 'WITHSCORES'), a + 2
end

-- which: how many are in a set of the shard
ops.count = function(base, a) return redis.call('ZCARD', base .. ARGV[a]), a + 1 end

-- owner, id, shard of the id ('': a cluster). Only takes away, so that it works on a full server, too.
ops.forget = function(base, a)
  local owner, id, idShard = ARGV[a], ARGV[a + 1], ARGV[a + 2]
  local hash, member = base .. 'c:' .. owner, owner .. '/' .. id
  local text = redis.call('HGET', hash, id .. '.')
  if text and string.byte(text) < firstTerminal then return 0, a + 3 end
  local tenant, client = string.match(owner, '^([^/]*)/(.*)$')
  redis.call('ZREM', base .. 'ended', member)
  redis.call('ZREM', base .. 'l:' .. owner, id)
  redis.call('ZREM', base .. 'a:' .. tenant, client .. '/' .. id)
  if idShard ~= '' then redis.call('DEL', root .. idShard .. '}:i:' .. id) end
  if not text then return 0, a + 3 end
  local idem = unpackState(text).idem
  redis.call('HDEL', hash, id, id .. '.', id .. '+')
  if idem ~= '' and redis.call('HGET', hash, '=' .. idem) == id then redis.call('HDEL', hash, '=' .. idem) end
  if redis.call('EXISTS', base .. 'l:' .. owner) == 0 then redis.call('HDEL', hash, '#n', '#b', '#p') end
  return 1, a + 3
end

-- name of what is kept: what it was called until now
ops.mark = function(base, a)
  return redis.call('SET', base .. 'mark', ARGV[a], 'NX', 'GET') or '', a + 1
end
--MORE--
local replies, at = {}, 2
while at <= #ARGV do
  local reply
  reply, at = ops[ARGV[at]](root .. ARGV[at + 1] .. '}:', at + 2)
  replies[#replies + 1] = reply
end
return replies
`;

/** Carries out any number of operations, of these and of more. */
export const operations = (more: string) => script(lua.replace('--MORE--', () => more));
