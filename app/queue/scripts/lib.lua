-- Shared by every script: clock, keys and the moves that several transitions make.
-- ARGV[1] is the key prefix. Effects only are replicated, so the server's clock is safe to use.
local P = ARGV[1]
local OURS = P .. ':recado:'
local clock = redis.call('TIME')
local NOW_MS = clock[1] * 1000 + math.floor(clock[2] / 1000)
local NOW = string.format('%d.%06d', clock[1], clock[2])
local NOW_S = tonumber(NOW)
-- Stock tools clean `wip` by the caller's clock and would fail live jobs (RQ 3.0.0,
-- StartedJobRegistry.cleanup): far beyond the job's own time-out they leave them alone.
local HORIZON = 3600
local ENDLESS = 86400
local TRAIL_BYTES = 32768
local DEPENDENTS_A_CALL = 100

local function call(...) return redis.call(...) end
local function has(key) return redis.call('EXISTS', key) == 1 end

-- RQ's time format, %Y-%m-%dT%H:%M:%S.%fZ; Lua in the server has no os.date.
-- Days to civil date after Howard Hinnant, chrono-compatible low-level date algorithms.
local function iso(seconds, micros)
  local days = math.floor(seconds / 86400)
  local rest = seconds - days * 86400
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month,
    doy - math.floor((153 * mp + 2) / 5) + 1, math.floor(rest / 3600),
    math.floor(rest / 60) % 60, rest % 60, micros)
end
local NOW_ISO = iso(tonumber(clock[1]), tonumber(clock[2]))

local function job_key(id) return P .. ':job:' .. id end
local function queue_key(q) return P .. ':queue:' .. q end
local function execution_key(composite) return P .. ':execution:' .. composite end
local function worker_key(w) return P .. ':worker:' .. w end
local function held_key(w) return P .. ':worker:' .. w .. ':executions' end
local function split_composite(composite) return string.match(composite, '^([^:]*):(.*)$') end

local function queue_names()
  local names, cut = {}, #queue_key('')
  for _, key in ipairs(call('SMEMBERS', P .. ':queues')) do
    names[#names + 1] = string.sub(key, cut + 1)
  end
  return names
end

-- The trail is kept in the job's own hash, so that it lives and goes with the job whoever
-- deletes it. The oldest lines give way when it grows too long.
local function append_trail(trail, line)
  local grown = (trail and trail ~= '') and (trail .. '\n' .. line) or line
  while #grown > TRAIL_BYTES do
    local cut = string.find(grown, '\n', 1, true)
    if not cut then break end
    grown = string.sub(grown, cut + 1)
  end
  return grown
end

local function trail_line(event, detail)
  if detail and detail ~= '' then
    return string.format('[%d,"%s",%s]', NOW_MS, event, detail)
  end
  return string.format('[%d,"%s"]', NOW_MS, event)
end

local function note(id, event, detail)
  local key = job_key(id)
  call('HSET', key, 'x_trail', append_trail(call('HGET', key, 'x_trail'), trail_line(event, detail)))
end

-- Which queues got something to do; told to sleeping workers once, at the end of the script.
local woken = {}
local function push(q, id, front)
  call('SADD', P .. ':queues', queue_key(q))
  call(front and 'LPUSH' or 'RPUSH', queue_key(q), id)
  woken[q] = true
end

local function wake()
  local names = {}
  for q in pairs(woken) do names[#names + 1] = q end
  if #names > 0 then call('PUBLISH', OURS .. 'wake', table.concat(names, ',')) end
end

-- A live execution of the job, other than `except`. Entries whose hash is gone are dropped.
local function live_execution(id, except)
  local key = P .. ':executions:' .. id
  for _, ex in ipairs(call('ZRANGE', key, 0, -1)) do
    if ex ~= except then
      if has(execution_key(id .. ':' .. ex)) then return ex end
      call('ZREM', key, ex)
    end
  end
  return false
end

local function drop_execution(worker, q, id, ex)
  local composite = id .. ':' .. ex
  call('DEL', execution_key(composite))
  call('ZREM', P .. ':executions:' .. id, ex)
  call('ZREM', P .. ':wip:' .. q, composite)
  if worker then call('SREM', held_key(worker), composite) end
end

-- What a worker holds and does not run goes back in front; true when it did. It may have
-- begun there: the next run is told. A record that is broken or gone leaves nothing to give.
local function give_back(worker, composite)
  local id, ex = split_composite(composite)
  local job = {}
  if id and call('TYPE', job_key(id)).ok == 'hash' then
    job = call('HMGET', job_key(id), 'origin', 'status')
  end
  local live = has(execution_key(composite))
  drop_execution(worker, job[1] or '', id or composite, ex or '')
  if not live or not job[1] or job[2] ~= 'started' or live_execution(id, ex) then return false end
  call('HSET', job_key(id), 'status', 'queued', 'x_interrupted', 1)
  note(id, 'interrupted')
  push(job[1], id, true)
  return true
end

-- Seconds the job's keys are kept. 0 deletes at once, -1 keeps for ever, as RQ has it.
local function keep_for(id, ttl)
  local key = job_key(id)
  local kept = { key, key .. ':dependents', P .. ':job::' .. id .. ':dependencies',
    P .. ':results:' .. id }
  for _, each in ipairs(kept) do
    if ttl == 0 then call('DEL', each)
    elseif ttl > 0 then call('EXPIRE', each, ttl)
    else call('PERSIST', each) end
  end
end

local function registry_score(ttl) return ttl < 0 and -1 or NOW_S + ttl end

local function add_result(id, kind, worker, composite_started, fields)
  local args = { 'XADD', P .. ':results:' .. id, 'MAXLEN', '~', 10, '*', 'type', kind,
    'worker_name', worker or '' }
  if composite_started then
    args[#args + 1] = 'execution_id'; args[#args + 1] = composite_started[1]
    args[#args + 1] = 'execution_started_at'; args[#args + 1] = composite_started[2]
    args[#args + 1] = 'execution_ended_at'; args[#args + 1] = NOW
  end
  for i = 1, #fields, 2 do
    if fields[i + 1] and fields[i + 1] ~= '' then
      args[#args + 1] = fields[i]; args[#args + 1] = fields[i + 1]
    end
  end
  call(unpack(args))
end

local settled = 0
-- {id, status} of jobs whose dependents come next in this call: a list, as a long chain
-- of them would nest as deep as it is long.
local just_ended = {}

local function cancel_deferred(id, q, reason)
  call('ZREM', P .. ':deferred:' .. q, id)
  call('HSET', job_key(id), 'status', 'canceled', 'ended_at', NOW_ISO, 'x_reason', reason)
  note(id, 'canceled', '{"reason":"' .. reason .. '"}')
  call('ZADD', P .. ':canceled:' .. q, NOW, id)
  keep_for(id, ENDLESS)
  just_ended[#just_ended + 1] = { id, 'canceled' }
end

local function parents_allow(id, parent, parent_status, allow_failure)
  for _, other in ipairs(call('SMEMBERS', P .. ':job::' .. id .. ':dependencies')) do
    local status = other == parent and parent_status or call('HGET', job_key(other), 'status')
    -- A parent whose record is gone has ended and been cleaned away: RQ counts it as met.
    if status and status ~= 'finished' then
      if not (allow_failure and status == 'failed') then return false end
    end
  end
  return true
end

-- True when it goes on waiting.
local function settle_one(id, parent, parent_status)
  local job = call('HMGET', job_key(id), 'status', 'origin', 'allow_dependency_failures',
    'enqueue_at_front', 'x_type')
  if job[1] ~= 'deferred' or not job[2] then return false end
  local allow_failure = job[3] == '1'
  local met = parent_status == 'finished' or (allow_failure and parent_status == 'failed')
  if not met then
    -- RQ leaves such a dependent waiting for ever. Ours is settled; a stock job keeps RQ's way.
    if job[5] then cancel_deferred(id, job[2], 'parent_failed') end
    return not job[5]
  end
  if not parents_allow(id, parent, parent_status, allow_failure) then return false end
  call('ZREM', P .. ':deferred:' .. job[2], id)
  call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', NOW_ISO)
  note(id, 'queued')
  push(job[2], id, job[4] == '1')
  return false
end

local function settle_dependent(id, status, dependent)
  settled = settled + 1
  local ok, waits = pcall(settle_one, dependent, id, status)
  if not (ok and waits) then call('SREM', job_key(id) .. ':dependents', dependent) end
end

-- From a list of its own, which only gets shorter: stock dependents that go on waiting would
-- be looked at again and again, and the parent's keys may be gone by now.
local function settle_more(id, status)
  while settled < DEPENDENTS_A_CALL do
    local dependent = call('SPOP', OURS .. 'settling:' .. id)
    if not dependent then return call('HDEL', OURS .. 'settle', id) end
    settle_dependent(id, status, dependent)
  end
end

local function settle_just_ended()
  while #just_ended > 0 do
    local id, status = unpack(table.remove(just_ended))
    local key = job_key(id) .. ':dependents'
    if call('TYPE', key).ok == 'set' then
      if settled + call('SCARD', key) <= DEPENDENTS_A_CALL then
        for _, dependent in ipairs(call('SMEMBERS', key)) do settle_dependent(id, status, dependent) end
      else
        call('SUNIONSTORE', OURS .. 'settling:' .. id, key)
        call('HSET', OURS .. 'settle', id, status)
        settle_more(id, status)
      end
    end
  end
end

-- Queue or cancel what waited for this job. Many dependents would hold the server up:
-- the rest is left to `recover`.
local function settle_dependents(id, status)
  just_ended[#just_ended + 1] = { id, status }
  settle_just_ended()
end

local function fail(id, q, error_json, exc_string, ttl)
  call('HSET', job_key(id), 'status', 'failed', 'ended_at', NOW_ISO, 'x_error', error_json)
  call('ZADD', P .. ':failed:' .. q, registry_score(ttl), id)
  add_result(id, 2, nil, nil, { 'exc_string', exc_string })
  settle_dependents(id, 'failed')
  keep_for(id, ttl)
end

local function cause_of(problem)
  if type(problem) == 'table' then return problem.cause or problem.err or 'unknown' end
  return tostring(problem)
end

-- A job that a transition cannot move must not stop its neighbours, nor be nowhere: to the
-- failed registry, with why. `exc_string` is the text packed for RQ, which Lua cannot do.
local function bury(q, id, problem, exc_string)
  local key, message = job_key(id), 'The record of this job cannot be read: ' .. cause_of(problem)
  if call('TYPE', key).ok ~= 'hash' then
    if has(key) then
      call('RENAME', key, OURS .. 'broken:' .. id)
      call('EXPIRE', OURS .. 'broken:' .. id, ENDLESS)
    end
    call('HSET', key, 'data', '["unreadable",null,[],{}]', 'created_at', NOW_ISO, 'origin', q)
  end
  call('HDEL', key, 'retries_left', 'retry_intervals', 'timeout', 'x_attempt', 'x_failures',
    'x_abandoned')
  -- What RQ cannot read as a number would keep its tools from showing the job (RQ 3.0.0).
  for _, name in ipairs({ 'failure_ttl', 'result_ttl' }) do
    if not string.match(call('HGET', key, name) or '', '^%-?%d%d?%d?%d?%d?%d?%d?%d?%d?$') then
      call('HDEL', key, name)
    end
  end
  local ttl = tonumber(call('HGET', key, 'failure_ttl') or '') or 30 * ENDLESS
  local error_json = cjson.encode({ code = 'broken_record', class = 'BrokenRecord',
    retryable = false, message = message })
  -- The state first: whatever else of this job is broken, it says that it has failed.
  call('HSET', key, 'status', 'failed', 'ended_at', NOW_ISO, 'x_error', error_json)
  pcall(note, id, 'failed', error_json)
  pcall(fail, id, q, error_json, exc_string, ttl)
end
