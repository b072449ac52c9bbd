-- How jobs end and what that settles: retention, slots, sizes, dependents, the failed registry.
local DEPENDENTS_A_CALL = 100

local function keys_of(id)
  local key = job_key(id)
  return { key, key .. ':dependents', P .. ':job::' .. id .. ':dependencies', P .. ':results:' .. id }
end

-- Seconds the job's keys are kept. 0 removes them at once, -1 keeps for ever, as RQ has it.
-- The keys outlive the retention by a little: upkeep then finds out where else the job stands.
local function keep_for(id, ttl, beyond)
  if ttl == 0 then return remove(id) end
  for _, each in ipairs(keys_of(id)) do
    if ttl > 0 then call('EXPIRE', each, ttl + (beyond or TIDY_SECONDS)) else call('PERSIST', each) end
  end
end

-- What is in the failed registry can be requeued up to its last moment there, and RQ's requeue
-- leaves the TTL on it (RQ 3.0.0): long enough for upkeep to come by (`spare`), also where no
-- worker is up over night.
local REQUEUED_SECONDS = 86400
local function keep_failed(id, ttl) keep_for(id, ttl, REQUEUED_SECONDS) end

-- A job that waits or runs, and what waits for it, must not be forgotten.
local function spare(id)
  if call('PERSIST', job_key(id)) == 0 then return end
  requeued(id)
  for _, each in ipairs(keys_of(id)) do call('PERSIST', each) end
end

-- Whatever way a job ends, it gives back what it held while it waited and ran. `job` has the
-- values of LEAVING, if they have been read; `released` takes the bytes by queue for who ends
-- many and tells at the end.
local LEAVING = { 'rate_limit_key', 'x_size', 'origin', 'x_expires', 'x_error', 'x_notify',
  'x_type' }
local function leave(id, status, job, released)
  job = job or call('HMGET', job_key(id), unpack(LEAVING))
  leave_slot(id, job[1])
  if job[3] then tally(status, job[3], job[7]) end
  if job[2] and job[3] then
    local base, size = base_queue(job[3]), tonumber(job[2]) or 0
    if released then released[base] = (released[base] or 0) + size
    else call('HINCRBY', OURS .. 'bytes', base, -size) end
    call('HDEL', job_key(id), 'x_size')
  end
  if job[4] then redis.pcall('ZREM', OURS .. 'expires', id) end
  if status == 'finished' and job[5] then unlist_error(id) end
  index_status(id, status)
  if status == 'failed' then enter_group(id, job[3] or '', job[5]) end
  -- Whatever is wrong with it must not keep the job from ending.
  if job[6] then pcall(notify, id, status, job[6]) end
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
-- {id, status, ttl} of jobs whose dependents come next in this call, and then, where a ttl
-- stands, their own retention: a list, as a long chain would nest as deep as it is long.
local just_ended = {}

-- A job that waits, in whatever way, is canceled. `detail` is JSON for the trail.
local function cancel_waiting(id, job, reason, detail)
  local status, q = job.status, job.origin
  if status == 'scheduled' then call('ZREM', P .. ':scheduled:' .. q, id)
  elseif status == 'deferred' then
    call('ZREM', P .. ':deferred:' .. q, id)
    for _, parent in ipairs(call('SMEMBERS', P .. ':job::' .. id .. ':dependencies')) do
      call('SREM', job_key(parent) .. ':dependents', id)
    end
  elseif status ~= 'rate_limited' and status ~= 'taken' then
    call('LREM', queue_key(q), 0, id)
  end
  unindex_status(id, status)
  call('HSET', job_key(id), 'status', 'canceled', 'ended_at', NOW_ISO, 'x_reason', reason)
  note(id, 'canceled', detail or ('{"reason":"' .. reason .. '"}'))
  call('ZADD', P .. ':canceled:' .. q, NOW, id)
  leave(id, 'canceled')
  local ttl = tonumber(job.ttl or '') or ENDLESS
  if ttl > 0 then call('ZADD', OURS .. 'retained', NOW_S + ttl, id)
  elseif ttl == 0 then call('ZREM', P .. ':canceled:' .. q, id) end
  just_ended[#just_ended + 1] = { id, 'canceled', ttl }
end

-- RQ lets a dependent that allows failures follow a failed parent; ours also a stopped or
-- canceled one, as nothing else would ever settle it.
local FAILED = { failed = true, stopped = true, canceled = true }

local function parents_allow(id, parent, parent_status, allow_failure)
  for _, other in ipairs(call('SMEMBERS', P .. ':job::' .. id .. ':dependencies')) do
    local status = other == parent and parent_status or call('HGET', job_key(other), 'status')
    -- A parent whose record is gone has ended and been cleaned away: RQ counts it as met.
    if status and status ~= 'finished' and not (allow_failure and FAILED[status]) then
      return false
    end
  end
  return true
end

-- True when it goes on waiting.
local function settle_one(id, parent, parent_status)
  local job = call('HMGET', job_key(id), 'status', 'origin', 'allow_dependency_failures',
    'enqueue_at_front', 'x_type', 'x_at', 'result_ttl', 'rate_limit_key', 'rate_limit_concurrency')
  local q = job[2]
  if job[1] ~= 'deferred' or not q then return false end
  local allow_failure = job[3] == '1'
  if parent_status ~= 'finished' and not (allow_failure and FAILED[parent_status]) then
    -- RQ leaves such a dependent waiting for ever. Ours is settled; a stock job keeps RQ's way.
    if job[5] then
      cancel_waiting(id, { status = 'deferred', origin = q, ttl = job[7] }, 'parent_failed')
    end
    return not job[5]
  end
  if not parents_allow(id, parent, parent_status, allow_failure) then return false end
  call('ZREM', P .. ':deferred:' .. q, id)
  unindex_status(id, 'deferred')
  local due = tonumber(job[6] or '')
  if due and due > tonumber(NOW_US) then
    call('HSET', job_key(id), 'status', 'scheduled')
    call('ZADD', P .. ':scheduled:' .. q, string.format('%.6f', due / 1e6), id)
    index_status(id, 'scheduled')
    note(id, 'scheduled')
    woken['@'] = true
  else
    note(id, 'queued')
    enqueue(id, q, job[4] == '1', job[8], job[9])
  end
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
    local id, status, ttl = unpack(table.remove(just_ended))
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
    if ttl then keep_for(id, ttl) end
  end
end

-- Queue or cancel what waited for this job. Many dependents would hold the server up:
-- the rest is left to `recover`.
local function settle_dependents(id, status)
  just_ended[#just_ended + 1] = { id, status }
  settle_just_ended()
end

local function fail(id, q, error_json, exc_string, ttl)
  call('HSET', job_key(id), 'status', 'failed', 'ended_at', NOW_ISO)
  set_error(id, error_json)
  call('ZADD', P .. ':failed:' .. q, registry_score(ttl), id)
  add_result(id, 2, nil, nil, { 'exc_string', exc_string })
  leave(id, 'failed')
  settle_dependents(id, 'failed')
  keep_failed(id, ttl)
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
    put_aside(id)
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
    retryable = false, message = message,
    fingerprint = fingerprint_of(call('HGET', key, 'x_type'), 'BrokenRecord',
      'The record of this job cannot be read') })
  -- A claim that broke off half-way has left it: nobody runs it.
  local executions = redis.pcall('ZRANGE', P .. ':executions:' .. id, 0, -1)
  for _, ex in ipairs(executions) do redis.pcall('DEL', execution_key(id .. ':' .. ex)) end
  for _, ex in ipairs(executions) do redis.pcall('ZREM', P .. ':wip:' .. q, id .. ':' .. ex) end
  call('DEL', P .. ':executions:' .. id)
  -- The state first: whatever else of this job is broken, it says that it has failed.
  call('HSET', key, 'status', 'failed', 'ended_at', NOW_ISO)
  if not pcall(set_error, id, error_json) then call('HSET', key, 'x_error', error_json) end
  pcall(note, id, 'failed', error_json)
  pcall(fail, id, q, error_json, exc_string, ttl)
end

-- What a worker holds and does not run goes back in front; what cannot, to the failed registry.
-- True when it went back.
local function give_up_held(worker, composite, exc_string)
  local ok, given = pcall(give_back, worker, composite)
  if ok then return given end
  redis.pcall('SREM', held_key(worker), composite)
  local id = split_composite(composite)
  local q = id and redis.pcall('HGET', job_key(id), 'origin')
  if type(q) == 'string' then pcall(bury, q, id, given, exc_string) end
  return false
end
