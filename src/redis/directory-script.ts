// The directory's operations, for the script of `command-script.ts`. In the hash c:<tenant>/<client id>:
//   @i @e  instance and epoch of the newest claim;  @d what it told of the client, as JSON;  @t its time
//   @r     the time of its release, absent while it is held;  @k token of the claim, and who held the client before
// Of a shard:
//   t:<tenant>  zset of the client ids that are known (by name: all scores are 0)
//   away        zset, <tenant>/<client id> of released clients, by their release
// In shard 0:
//   nodes       hash, instance -> JSON of the node, <instance>+ -> JSON of its load

export const directoryLua = `
-- instance, ms
ops.join = function(base, a)
  redis.call('SET', base .. 'lease:' .. ARGV[a], 1, 'PX', ARGV[a + 1])
  leases[base .. 'lease:' .. ARGV[a]] = true
  return 1, a + 2
end

-- instance, ms
ops.renew = function(base, a)
  return redis.call('PEXPIRE', base .. 'lease:' .. ARGV[a], ARGV[a + 1]), a + 2
end

-- instance
ops.leave = function(base, a)
  redis.call('DEL', base .. 'lease:' .. ARGV[a])
  leases[base .. 'lease:' .. ARGV[a]] = false
  redis.call('HDEL', base .. 'nodes', ARGV[a], ARGV[a] .. '+')
  return 1, a + 1
end

-- field of the list of nodes, value
ops.tell = function(base, a)
  redis.call('HSET', base .. 'nodes', ARGV[a], ARGV[a + 1])
  return 1, a + 2
end

-- instance, node, load, ... of those whose leases live
ops.nodes = function(base, a)
  local all, found = redis.call('HGETALL', base .. 'nodes'), {}
  local told = {}
  for i = 1, #all, 2 do told[all[i]] = all[i + 1] end
  for instance, node in pairs(told) do
    if string.sub(instance, -1) ~= '+' then
      if lives(base, instance) then
        found[#found + 1] = node
        found[#found + 1] = told[instance .. '+'] or '{}'
      else
        redis.call('HDEL', base .. 'nodes', instance, instance .. '+')
      end
    end
  end
  return found, a
end

local function entry(base, owner)
  local f = redis.call('HMGET', base .. 'c:' .. owner, '@d', '@e', '@i', '@t', '@r')
  if not f[1] then return false end
  return { f[1], f[2], holder(base, f[3], f[2], f[5]) or '', f[4], f[5] or '' }
end

local function tellChange(base, owner)
  local tenant, client = string.match(owner, '^([^/]*)/(.*)$')
  local told = entry(base, owner)
  redis.call('PUBLISH', string.sub(root, 1, -2) .. 'changed:' .. tenant, cjson.encode({ client, unpack(told) }))
end

-- owner, instance, what is told, after epoch, if epoch ('': in any case), token
ops.claim = function(base, a)
  local owner, instance, told, after, ifEpoch, token = ARGV[a], ARGV[a + 1], ARGV[a + 2], tonumber(ARGV[a + 3]), ARGV[a + 4], ARGV[a + 5]
  local next = a + 6
  if not lives(base, instance) then return { 'lapsed' }, next end
  local hash = base .. 'c:' .. owner
  local f = redis.call('HMGET', hash, '@i', '@e', '@r', '@k')
  if f[4] then
    local seen, epoch, by = string.match(f[4], '^(%S+) (%S+) (.*)$')
    -- The same claim again, after a lost answer.
    if seen == token then return { 'claimed', f[2], epoch, by }, next end
  end
  local last = f[2] or '0'
  if ifEpoch ~= '' and ifEpoch ~= last then return { 'taken', last }, next end
  local epoch = int(math.max(tonumber(last) + 1, after + 1, math.floor(micros / 1000)))
  local by = f[1] and lives(base, f[1]) and f[1] or ''
  redis.call('HSET', hash, '@i', instance, '@e', epoch, '@d', told, '@t', int(math.floor(micros / 1000)),
    '@k', token .. ' ' .. last .. ' ' .. by)
  redis.call('HDEL', hash, '@r')
  local tenant, client = string.match(owner, '^([^/]*)/(.*)$')
  redis.call('ZADD', base .. 't:' .. tenant, 0, client)
  if f[3] then redis.call('ZREM', base .. 'away', owner) end
  if by ~= '' and by ~= instance and not f[3] then
    redis.call('PUBLISH', string.sub(root, 1, -2) .. 'taken:' .. by, cjson.encode({ tenant, client, epoch }))
  end
  tellChange(base, owner)
  return { 'claimed', epoch, last, by }, next
end

-- owner, instance, epoch, how many that are away are remembered
ops.release = function(base, a)
  local owner, instance, epoch, remembered = ARGV[a], ARGV[a + 1], ARGV[a + 2], tonumber(ARGV[a + 3])
  local hash = base .. 'c:' .. owner
  local f = redis.call('HMGET', hash, '@i', '@e', '@r')
  if f[1] ~= instance or f[2] ~= epoch or f[3] then return 0, a + 4 end
  local now = int(math.floor(micros / 1000))
  redis.call('HSET', hash, '@r', now)
  redis.call('ZADD', base .. 'away', now, owner)
  tellChange(base, owner)
  local excess = redis.call('ZCARD', base .. 'away') - remembered
  if excess > 0 then
    for _, old in ipairs(redis.call('ZRANGE', base .. 'away', 0, excess - 1)) do
      local tenant, client = string.match(old, '^([^/]*)/(.*)$')
      redis.call('HDEL', base .. 'c:' .. old, '@i', '@e', '@d', '@t', '@r', '@k')
      redis.call('ZREM', base .. 't:' .. tenant, client)
      redis.call('ZREM', base .. 'away', old)
    end
  end
  return 1, a + 4
end

-- count, owners: instance and epoch of each, '' where nobody holds it
ops.holders = function(base, a)
  local found = {}
  for i = a + 1, a + tonumber(ARGV[a]) do
    local f = redis.call('HMGET', base .. 'c:' .. ARGV[i], '@i', '@e', '@r')
    local by, epoch = holder(base, f[1], f[2], f[3])
    found[#found + 1] = by or ''
    found[#found + 1] = epoch or ''
  end
  return found, a + 1 + tonumber(ARGV[a])
end

-- owner
ops.entry = function(base, a) return entry(base, ARGV[a]), a + 1 end

-- tenant, client id after which to go on, limit: client id and entry of each
ops.entries = function(base, a)
  local tenant, found = ARGV[a], {}
  local from = ARGV[a + 1] == '' and '-' or '(' .. ARGV[a + 1]
  for _, client in ipairs(redis.call('ZRANGE', base .. 't:' .. tenant, from, '+', 'BYLEX', 'LIMIT', 0, ARGV[a + 2])) do
    found[#found + 1] = client
    found[#found + 1] = entry(base, tenant .. '/' .. client)
  end
  return found, a + 3
end
`;
