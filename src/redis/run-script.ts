import { script } from './connection.ts';

/**
 * Runs of tasks, as `RunStore` wants them. KEYS: one key, which names the slot; all others begin as it does. ARGV: the
 * verb, the caller's time, 1 to go by the server's time instead, then what the verb needs.
 *
 * Every run is a hash: `j` (what never changes, as JSON), `n` (its position), and where it stands. Lines, by id: `later`
 * (due), `ready` (priority, position), `claimed` (until), `deadline`, `unannounced`, `ended`, `all:<tenant>`; for each
 * limit key `active:`, `blocked:` (position) and `running:`. What is repeated after a lost answer is known by its token.
 */
export const runScript = script(`
local root = KEYS[1]
local verb, now, shift = ARGV[1], tonumber(ARGV[2]), 0
if ARGV[3] == '1' then
  local time = redis.call('TIME')
  local server = time[1] * 1000 + math.floor(time[2] / 1000)
  shift = server - now
  now = server
end
local function key(name) return root .. ':' .. name end
local function runKey(id) return root .. ':run:' .. id end
local function get(id, field) return redis.call('HGET', runKey(id), field) or '' end
local function shown(id) return redis.call('HGETALL', runKey(id)) end
local function all(ids)
  local found = {}
  for i, id in ipairs(ids) do found[i] = shown(id) end
  return found
end

-- Takes a run out of the line in which it stands, and puts it into another one.
local function enter(id, phase, score)
  local was, limit = get(id, 'phase'), get(id, 'limit')
  if was == 'later' or was == 'ready' or was == 'blocked' then redis.call('DECR', key('queued')) end
  if was == 'later' or was == 'ready' then redis.call('ZREM', key(was), id) end
  if was == 'blocked' then redis.call('ZREM', key('blocked:' .. limit), id) end
  if was == 'running' then
    redis.call('ZREM', key('claimed'), id)
    if limit ~= '' then redis.call('SREM', key('running:' .. limit), id) end
  end
  redis.call('HSET', runKey(id), 'phase', phase)
  if phase == 'later' or phase == 'ready' or phase == 'blocked' then
    redis.call('INCR', key('queued'))
    local deadline = get(id, 'deadline')
    if deadline ~= '' then redis.call('ZADD', key('deadline'), deadline, id) end
  else
    redis.call('ZREM', key('deadline'), id)
  end
  local position = tonumber(get(id, 'n'))
  if phase == 'later' then redis.call('ZADD', key('later'), score, id) end
  if phase == 'ready' then redis.call('ZADD', key('ready'), position - tonumber(get(id, 'priority')) * 1e12, id) end
  if phase == 'blocked' then redis.call('ZADD', key('blocked:' .. limit), position, id) end
  if phase == 'running' then
    redis.call('ZADD', key('claimed'), score, id)
    if limit ~= '' then redis.call('SADD', key('running:' .. limit), id) end
  end
end

local function unblock(limit)
  if limit == '' then return end
  local first = redis.call('ZRANGE', key('blocked:' .. limit), 0, 0)
  if first[1] then enter(first[1], 'ready') end
end

local function queue(id, due)
  redis.call('HSET', runKey(id), 'state', 'queued', 'due', due)
  if due <= now then enter(id, 'ready') else enter(id, 'later', due) end
end

local function finish(id, state, code, message)
  local limit, wasRunning = get(id, 'limit'), get(id, 'phase') == 'running'
  enter(id, 'ended')
  redis.call('HSET', runKey(id), 'state', state, 'ended', now, 'updated', now)
  redis.call('HDEL', runKey(id), 'checkpoint', 'ecode', 'emessage')
  if code then redis.call('HSET', runKey(id), 'ecode', code, 'emessage', message) end
  redis.call('ZADD', key('unannounced'), get(id, 'n'), id)
  if limit ~= '' then
    redis.call('ZREM', key('active:' .. limit), id)
    if wasRunning then unblock(limit) end
  end
end

local function ask(id, reason)
  if get(id, 'phase') == 'running' then
    redis.call('HSETNX', runKey(id), 'cancel', reason)
    redis.call('HSET', runKey(id), 'updated', now)
  else
    redis.call('HSET', runKey(id), 'cancel', reason)
    finish(id, 'cancelled', 'cancelled', reason)
  end
end

local function stands(id, epoch)
  return get(id, 'phase') == 'running' and get(id, 'epoch') == epoch
end

local function start(id, till)
  enter(id, 'running', till)
  redis.call('HINCRBY', runKey(id), 'epoch', 1)
  redis.call('HSETNX', runKey(id), 'started', now)
  redis.call('HSET', runKey(id), 'state', 'running', 'updated', now)
end

if verb == 'add' then
  local id, json, tenant, task, idempotency, priority = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
  local limit, places, onFull = ARGV[10], tonumber(ARGV[11]), ARGV[12]
  local due, deadline, maxQueued, reason, newest = tonumber(ARGV[13]) + shift, ARGV[14], tonumber(ARGV[15]), ARGV[16], ARGV[17]
  if redis.call('EXISTS', runKey(id)) == 1 then return {'known', shown(id)} end
  if idempotency ~= '' then
    local known = redis.call('GET', key('key:' .. idempotency))
    if known and redis.call('EXISTS', runKey(known)) == 1 then return {'known', shown(known)} end
  end
  local surplus, active = 0, {}
  if limit ~= '' and onFull ~= 'queue' then
    active = redis.call('ZRANGE', key('active:' .. limit), 0, -1)
    surplus = #active - places + 1
  end
  if surplus > 0 and onFull == 'reject' then return {'full', 'key'} end
  if tonumber(redis.call('GET', key('queued')) or 0) >= maxQueued then return {'full', 'queue'} end
  local cancelled = {}
  if surplus > 0 and onFull == 'cancel-oldest' then
    for _, other in ipairs(active) do
      if #cancelled < surplus and get(other, 'cancel') == '' then
        ask(other, reason)
        cancelled[#cancelled + 1] = other
      end
    end
  end
  local position = redis.call('INCR', key('positions'))
  if deadline ~= '' then deadline = tonumber(deadline) + shift end
  redis.call('HSET', runKey(id), 'j', json, 'n', position, 'tenant', tenant, 'task', task, 'priority', priority, 'limit', limit,
    'places', places, 'epoch', 0, 'failures', 0, 'crashes', 0, 'created', now, 'updated', now, 'deadline', deadline, 'key', idempotency)
  if idempotency ~= '' then redis.call('SET', key('key:' .. idempotency), id) end
  redis.call('ZADD', key('all:' .. tenant), position, id)
  if limit ~= '' then redis.call('ZADD', key('active:' .. limit), position, id) end
  queue(id, due)
  if surplus > 0 and onFull == 'cancel-newest' then ask(id, newest) end
  return {'stored', shown(id), all(cancelled)}

elseif verb == 'claim' then
  local token, count, till, most, only = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]) + shift, tonumber(ARGV[7]), ARGV[8]
  local before = redis.call('GET', key('claim:' .. token))
  if before then
    local known = cjson.decode(before)
    return {all(known.runs), all(known.ended), ''}
  end
  local mine, runs, ended = {}, {}, {}
  for i = 9, #ARGV do mine[ARGV[i]] = true end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('deadline'), '-inf', now, 'LIMIT', 0, 500)) do
    finish(id, 'failed', 'timed-out', 'the time of the whole run was over')
    ended[#ended + 1] = id
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('later'), '-inf', now, 'LIMIT', 0, 1000)) do enter(id, 'ready') end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('claimed'), '-inf', now, 'LIMIT', 0, 500)) do
    if #runs < count and mine[get(id, 'task')] and (only == '' or only == id) then
      local crashes, reason = redis.call('HINCRBY', runKey(id), 'crashes', 1), get(id, 'cancel')
      if reason ~= '' then
        finish(id, 'cancelled', 'cancelled', reason)
        ended[#ended + 1] = id
      elseif crashes > most then
        finish(id, 'failed', 'worker-lost', 'its worker was lost ' .. crashes .. ' times without a checkpoint in between')
        ended[#ended + 1] = id
      else
        start(id, till)
        runs[#runs + 1] = id
      end
    end
  end
  local at = 0
  while #runs < count do
    local line = redis.call('ZRANGE', key('ready'), at, at + 99)
    if #line == 0 then break end
    for _, id in ipairs(line) do
      if #runs >= count or not mine[get(id, 'task')] or (only ~= '' and only ~= id) then
        at = at + 1
      else
        local limit = get(id, 'limit')
        if limit == '' or redis.call('SCARD', key('running:' .. limit)) < tonumber(get(id, 'places')) then
          start(id, till)
          runs[#runs + 1] = id
        else
          enter(id, 'blocked')
        end
      end
    end
  end
  local due = ''
  for _, line in ipairs({'later', 'claimed', 'deadline'}) do
    local first = redis.call('ZRANGE', key(line), 0, 0, 'WITHSCORES')
    if first[2] and (due == '' or tonumber(first[2]) < due) then due = tonumber(first[2]) end
  end
  if #runs > 0 or #ended > 0 then
    redis.call('SET', key('claim:' .. token), cjson.encode({runs = runs, ended = ended}), 'PX', 60000)
  end
  if due ~= '' then due = string.format('%.0f', due - shift) end
  return {all(runs), all(ended), due}

elseif verb == 'renew' then
  local till, outcomes = tonumber(ARGV[4]) + shift, {}
  for i = 5, #ARGV, 2 do
    local id = ARGV[i]
    if stands(id, ARGV[i + 1]) then
      redis.call('ZADD', key('claimed'), till, id)
      outcomes[#outcomes + 1] = {'kept', get(id, 'cancel')}
    else
      outcomes[#outcomes + 1] = {'lost', ''}
    end
  end
  return outcomes

elseif verb == 'checkpoint' then
  if not stands(ARGV[4], ARGV[5]) then return 0 end
  redis.call('HSET', runKey(ARGV[4]), 'checkpoint', ARGV[6], 'crashes', 0, 'updated', now)
  return 1

elseif verb == 'settle' then
  local id, epoch, token, how, code, message = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
  if get(id, 'token') == token then return shown(id) end
  if not stands(id, epoch) then return {} end
  redis.call('HSET', runKey(id), 'token', token, 'updated', now)
  local reason, limit = get(id, 'cancel'), get(id, 'limit')
  if reason ~= '' and (how == 'retry' or how == 'released') then
    finish(id, 'cancelled', 'cancelled', reason)
  elseif how == 'succeeded' then
    redis.call('HSET', runKey(id), 'result', ARGV[10])
    finish(id, 'succeeded')
  elseif how == 'failed' then
    redis.call('HINCRBY', runKey(id), 'failures', 1)
    finish(id, 'failed', code, message)
  elseif how == 'cancelled' then
    finish(id, 'cancelled', code, message)
  else
    if how == 'retry' then
      redis.call('HINCRBY', runKey(id), 'failures', 1)
      redis.call('HSET', runKey(id), 'ecode', code, 'emessage', message)
      queue(id, tonumber(ARGV[10]) + shift)
    else
      queue(id, ARGV[10] == '' and now or tonumber(ARGV[10]) + shift)
    end
    unblock(limit)
  end
  return shown(id)

elseif verb == 'cancel' then
  local tenant, id, reason = ARGV[4], ARGV[5], ARGV[6]
  if get(id, 'tenant') ~= tenant then return {} end
  if get(id, 'phase') ~= 'ended' then ask(id, reason) end
  return shown(id)

elseif verb == 'unannounced' then
  return all(redis.call('ZRANGE', key('unannounced'), 0, tonumber(ARGV[4]) - 1))

elseif verb == 'announced' then
  for i = 4, #ARGV do
    local id = ARGV[i]
    if redis.call('ZREM', key('unannounced'), id) == 1 then redis.call('ZADD', key('ended'), get(id, 'ended'), id) end
  end
  return 1

elseif verb == 'get' then
  if get(ARGV[5], 'tenant') ~= ARGV[4] then return {} end
  return shown(ARGV[5])

elseif verb == 'page' then
  -- A part of the newest runs of a tenant: what of them is asked for is looked at by the caller.
  local ids = redis.call('ZRANGE', key('all:' .. ARGV[4]), '(' .. ARGV[5], '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, tonumber(ARGV[6]))
  return all(ids)

elseif verb == 'prune' then
  local before, most, gone = ARGV[4], tonumber(ARGV[5]), {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('ended'), '-inf', '(' .. before, 'LIMIT', 0, 500)) do gone[#gone + 1] = id end
  if #gone == 0 then
    local surplus = redis.call('ZCARD', key('ended')) - most
    if surplus > 0 then gone = redis.call('ZRANGE', key('ended'), 0, math.min(surplus, 500) - 1) end
  end
  for _, id in ipairs(gone) do
    local idempotency = get(id, 'key')
    if idempotency ~= '' and redis.call('GET', key('key:' .. idempotency)) == id then redis.call('DEL', key('key:' .. idempotency)) end
    redis.call('ZREM', key('ended'), id)
    redis.call('ZREM', key('all:' .. get(id, 'tenant')), id)
    redis.call('DEL', runKey(id))
  end
  return #gone
end
return redis.error_reply('ERR runs know no ' .. verb)
`);
