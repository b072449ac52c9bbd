-- end: started jobs become finished, scheduled, queued, failed or stopped, if the execution
-- still owns the job; a late one changes nothing but the trail.
-- ARGV: prefix, worker, seq, exc_string of a broken record, count, then 14 an outcome: id, execution,
--   queue, kind (finished retry postponed blocked failed stopped interrupted abandoned), delay
--   seconds, ttl seconds,
--   return_value, exc_string, error JSON, result JSON beside an error, detail JSON, retries_left,
--   artifacts JSON of a finished one, progress JSON that is not told yet
-- Answer: a word an outcome: done, late, gone, broken.
local worker, seq, count = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])
local wkey = worker_key(worker)
local stored = call('HMGET', wkey, 'birth', 'x_end', 'x_end_answer')
if stored[2] and seq <= tonumber(stored[2]) then return cjson.decode(stored[3]) end

-- What is counted for the whole call and written once, at its end.
local counted = { successful_job_count = 0, failed_job_count = 0, seconds = 0 }
local released, let_go = {}, {}

-- Read once for each outcome: LEAVING, and what else a job leaves behind when it has finished.
local JOB = { unpack(LEAVING) }
for _, name in ipairs({ 'x_trail', 'x_result', 'x_next', 'dependency_id', 'result_ttl' }) do
  JOB[#JOB + 1] = name
end
local ORIGIN, TYPE, TRAIL, RESULT, NEXT, PARENT, TTL = 3, 7, 8, 9, 10, 11, 12

local finishers = {}

-- How nearly every job ends, in as few commands as can be. Not kept: see `remove`.
function finishers.finished(id, q, o, started, job)
  local key = job_key(id)
  local fields = { 'status', 'finished', 'ended_at', NOW_ISO, 'x_trail',
    append_trail(id, job[TRAIL], 'finished', o.detail) }
  if o.artifacts ~= '' then fields[7] = 'x_artifacts'; fields[8] = o.artifacts end
  call('HSET', key, unpack(fields))
  leave(id, 'finished', job, released)
  if o.ttl == 0 then
    settle_dependents(id, 'finished')
    return remove(id)
  end
  if job[RESULT] or job[NEXT] then call('HDEL', key, 'x_result', 'x_next') end
  add_result(id, 1, worker, started, { 'return_value', o.value })
  call('ZADD', P .. ':finished:' .. q, o.ttl < 0 and '+inf' or NOW_S + o.ttl, id)
  if o.ttl < 0 or job[PARENT] then
    settle_dependents(id, 'finished')
    return keep_for(id, o.ttl)
  end
  call('EXPIRE', key, o.ttl + TIDY_SECONDS)
  call('EXPIRE', P .. ':results:' .. id, o.ttl + TIDY_SECONDS)
  -- Most jobs have no dependents: 0 says so.
  if call('EXPIRE', key .. ':dependents', o.ttl + TIDY_SECONDS) == 1 then
    settle_dependents(id, 'finished')
  end
end

-- What an earlier run has left stays when this one leaves nothing: it may say who has got what.
local function keep_result(key, o)
  if o.result ~= '' then call('HSET', key, 'x_result', o.result) end
end

-- A retry that does not use up an attempt: nothing has failed, where the queue is not to blame.
function finishers.postponed(id, q, o, started, job)
  tally(o.kind == 'postponed' and 'postponed' or 'retried', q, job[TYPE])
  local key = job_key(id)
  call('HSET', key, 'ended_at', '')
  keep_result(key, o)
  set_error(id, o.error)
  if o.retries_left ~= '' then call('HSET', key, 'retries_left', o.retries_left) end
  add_result(id, 4, worker, started, { 'exc_string', o.exc })
  if o.delay <= 0 then
    return make_queued(id, q)
  end
  local due = NOW_S + o.delay
  call('HSET', key, 'status', 'scheduled', 'x_next', string.format('%.0f', due * 1e6))
  call('ZADD', P .. ':scheduled:' .. q, string.format('%.6f', due), id)
  index_status(id, 'scheduled')
  leave_slot(id, call('HGET', key, 'rate_limit_key'))
  woken['@'] = true
end

function finishers.retry(id, q, o, started, job)
  call('HINCRBY', job_key(id), 'x_failures', 1)
  finishers.postponed(id, q, o, started, job)
end

-- What is wrong would stop every job of its queue: none is begun until that is mended. An
-- operator's pause is left as it is.
function finishers.blocked(id, q, o, started, job)
  local base = base_queue(q)
  if call('SADD', OURS .. 'paused', base) == 1 then
    call('HSET', OURS .. 'paused_why', base, o.error)
  end
  finishers.postponed(id, q, o, started, job)
end

local function end_for_good(status)
  return function(id, q, o, started)
    local key = job_key(id)
    call('HSET', key, 'status', status, 'ended_at', NOW_ISO)
    keep_result(key, o)
    set_error(id, o.error)
    call('HDEL', key, 'x_next')
    if status == 'stopped' then call('HSET', key, 'x_reason', 'requested')
    else call('HINCRBY', key, 'x_failures', 1) end
    if o.retries_left ~= '' then call('HSET', key, 'retries_left', o.retries_left) end
    call('ZADD', P .. ':failed:' .. q, registry_score(o.ttl), id)
    add_result(id, 2, worker, started, { 'exc_string', o.exc })
    leave(id, status)
    settle_dependents(id, status)
    keep_failed(id, o.ttl)
  end
end
finishers.failed = end_for_good('failed')
finishers.stopped = end_for_good('stopped')

function finishers.interrupted(id, q, o, _, job)
  tally('interrupted', q, job[TYPE])
  call('HSET', job_key(id), 'x_interrupted', 1)
  put_back(id, q, o.stopped_by)
end

-- Its child process was killed from outside: like a worker that died, but known at once.
function finishers.abandoned(id, q, o, _, job)
  tally('recovered', q, job[TYPE])
  call('HINCRBY', job_key(id), 'x_abandoned', 1)
  put_back(id, q, o.stopped_by)
end

local EVENTS = { retry = 'retry_scheduled', postponed = 'retry_scheduled',
  blocked = 'retry_scheduled', abandoned = 'recovered' }

local function finish(o)
  local id, q, composite = o.id, o.queue, o.id .. ':' .. o.ex
  local execution = call('HMGET', execution_key(composite), 'worker_name', 'created_at', 'x_stop')
  local owned = false
  if execution[1] == worker then
    -- RQ's cancel takes a running job out of `wip` and leaves the rest (RQ 3.0.0).
    owned = call('ZREM', P .. ':wip:' .. q, composite) == 1
    call('DEL', execution_key(composite))
    call('ZREM', P .. ':executions:' .. id, o.ex)
    let_go[#let_go + 1] = composite
  end
  if not owned then
    if call('TYPE', job_key(id)).ok == 'hash' then note(id, 'late', o.detail) end
    return 'late'
  end
  local job = call('HMGET', job_key(id), unpack(JOB))
  if not job[ORIGIN] and not has(job_key(id)) then return 'gone' end
  o.stopped_by = execution[3]
  if o.stopped_by and (EVENTS[o.kind] == 'retry_scheduled' or o.kind == 'stopped') then
    o.kind = 'stopped' -- it was to end, and not to try again
    o.detail = cjson.encode({ reason = 'requested', by = o.stopped_by })
  end
  -- Kept as long as a canceled one: somebody wanted it so, and no operator has to look at it.
  if o.kind == 'stopped' then o.ttl = tonumber(job[TTL] or '') or ENDLESS end
  if o.progress ~= '' then job[TRAIL] = note_progress(id, o.progress) end
  if o.kind ~= 'finished' then note(id, EVENTS[o.kind] or o.kind, o.detail) end
  observe(RUN, q, job[TYPE], NOW_S - (tonumber(execution[2]) or NOW_S))
  finishers[o.kind](id, q, o, { o.ex, execution[2] }, job)
  local counter = o.kind == 'finished' and 'successful_job_count' or 'failed_job_count'
  if o.kind ~= 'interrupted' and o.kind ~= 'abandoned' then counted[counter] = counted[counter] + 1 end
  counted.seconds = counted.seconds + NOW_S - (tonumber(execution[2]) or NOW_S)
  return 'done'
end

local answers = {}
for i = 1, count do
  local at = 6 + (i - 1) * 14
  local ok, answer = pcall(finish, {
    id = ARGV[at], ex = ARGV[at + 1], queue = ARGV[at + 2], kind = ARGV[at + 3],
    delay = tonumber(ARGV[at + 4]), ttl = tonumber(ARGV[at + 5]), value = ARGV[at + 6],
    exc = ARGV[at + 7], error = ARGV[at + 8], result = ARGV[at + 9], detail = ARGV[at + 10],
    retries_left = ARGV[at + 11], artifacts = ARGV[at + 12],
    progress = ARGV[at + 13] })
  answers[i] = ok and answer or 'broken'
  if not ok then pcall(bury, ARGV[at + 2], ARGV[at], answer, ARGV[4]) end
end
if #let_go > 0 then call('SREM', held_key(worker), unpack(let_go)) end
for base, size in pairs(released) do call('HINCRBY', OURS .. 'bytes', base, -size) end
if stored[1] then
  for _, counter in ipairs({ 'successful_job_count', 'failed_job_count' }) do
    if counted[counter] > 0 then call('HINCRBY', wkey, counter, counted[counter]) end
  end
  call('HINCRBYFLOAT', wkey, 'total_working_time', string.format('%.6f', counted.seconds))
  call('HSET', wkey, 'x_end', seq, 'x_end_answer', cjson.encode(answers))
  if call('SCARD', held_key(worker)) == 0 then call('HSET', wkey, 'state', 'idle') end
end
wake()
return answers
