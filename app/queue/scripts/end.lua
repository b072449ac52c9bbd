-- end: started jobs become finished, scheduled, queued, failed or stopped, if the execution
-- still owns the job; a late one changes nothing but the trail.
-- ARGV: prefix, worker, seq, exc_string of a broken record, count, then 13 an outcome: id, execution, queue,
--   kind (finished retry failed stopped interrupted abandoned), delay seconds, ttl seconds,
--   return_value, exc_string, error JSON, result JSON beside an error, detail JSON, retries_left,
--   artifacts JSON of a finished one
-- Answer: a word an outcome: done, late, gone, broken.
local worker, seq, count = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])
local wkey = worker_key(worker)
local stored = call('HMGET', wkey, 'birth', 'x_end', 'x_end_answer')
if stored[2] and seq <= tonumber(stored[2]) then return cjson.decode(stored[3]) end

local finishers = {}

function finishers.finished(id, q, o, started)
  call('HSET', job_key(id), 'status', 'finished', 'ended_at', NOW_ISO)
  leave(id, 'finished')
  settle_dependents(id, 'finished')
  if o.ttl ~= 0 then
    call('HDEL', job_key(id), 'x_result', 'x_next')
    if o.artifacts ~= '' then call('HSET', job_key(id), 'x_artifacts', o.artifacts) end
    add_result(id, 1, worker, started, { 'return_value', o.value })
    call('ZADD', P .. ':finished:' .. q, o.ttl < 0 and '+inf' or NOW_S + o.ttl, id)
  end
  keep_for(id, o.ttl)
end

function finishers.retry(id, q, o, started)
  local key = job_key(id)
  call('HINCRBY', key, 'x_failures', 1)
  call('HSET', key, 'ended_at', '', 'x_result', o.result)
  set_error(id, o.error)
  if o.retries_left ~= '' then call('HSET', key, 'retries_left', o.retries_left) end
  add_result(id, 4, worker, started, { 'exc_string', o.exc })
  if o.delay <= 0 then
    return make_queued(id, q)
  end
  local due = NOW_S + o.delay
  call('HSET', key, 'status', 'scheduled', 'x_next', string.format('%.0f', due * 1000))
  call('ZADD', P .. ':scheduled:' .. q, string.format('%.6f', due), id)
  index_status(id, 'scheduled')
  leave_slot(id, call('HGET', key, 'rate_limit_key'))
  woken['@'] = true
end

local function end_for_good(status)
  return function(id, q, o, started)
    local key = job_key(id)
    call('HSET', key, 'status', status, 'ended_at', NOW_ISO, 'x_result', o.result)
    set_error(id, o.error)
    call('HDEL', key, 'x_next')
    if status == 'stopped' then call('HSET', key, 'x_reason', 'requested')
    else call('HINCRBY', key, 'x_failures', 1) end
    if o.retries_left ~= '' then call('HSET', key, 'retries_left', o.retries_left) end
    call('ZADD', P .. ':failed:' .. q, registry_score(o.ttl), id)
    add_result(id, 2, worker, started, { 'exc_string', o.exc })
    leave(id, status)
    settle_dependents(id, status)
    keep_for(id, o.ttl)
  end
end
finishers.failed = end_for_good('failed')
finishers.stopped = end_for_good('stopped')

function finishers.interrupted(id, q, o)
  call('HSET', job_key(id), 'x_interrupted', 1)
  put_back(id, q, o.stopped_by)
end

-- Its child process was killed from outside: like a worker that died, but known at once.
function finishers.abandoned(id, q, o)
  call('HINCRBY', job_key(id), 'x_abandoned', 1)
  put_back(id, q, o.stopped_by)
end

local EVENTS = { retry = 'retry_scheduled', abandoned = 'recovered' }

local function finish(o)
  local id, q, composite = o.id, o.queue, o.id .. ':' .. o.ex
  local execution = call('HMGET', execution_key(composite), 'worker_name', 'created_at', 'x_stop')
  local owned = execution[1] == worker and call('ZSCORE', P .. ':wip:' .. q, composite)
  if not owned then
    -- RQ's cancel takes a running job out of `wip` and leaves the rest (RQ 3.0.0).
    if execution[1] == worker then drop_execution(worker, q, id, o.ex) end
    if call('TYPE', job_key(id)).ok == 'hash' then note(id, 'late', o.detail) end
    return 'late'
  end
  drop_execution(worker, q, id, o.ex)
  if not has(job_key(id)) then return 'gone' end
  o.stopped_by = execution[3]
  if o.stopped_by and (o.kind == 'retry' or o.kind == 'stopped') then
    o.kind = 'stopped' -- it was to end, and not to try again
    o.detail = cjson.encode({ reason = 'requested', by = o.stopped_by })
  end
  note(id, EVENTS[o.kind] or o.kind, o.detail)
  finishers[o.kind](id, q, o, { o.ex, execution[2] })
  if stored[1] then
    local counter = o.kind == 'finished' and 'successful_job_count' or 'failed_job_count'
    if o.kind ~= 'interrupted' and o.kind ~= 'abandoned' then call('HINCRBY', wkey, counter, 1) end
    local seconds = NOW_S - (tonumber(execution[2]) or NOW_S)
    call('HINCRBYFLOAT', wkey, 'total_working_time', string.format('%.6f', seconds))
  end
  return 'done'
end

local answers = {}
for i = 1, count do
  local at = 6 + (i - 1) * 13
  local ok, answer = pcall(finish, {
    id = ARGV[at], ex = ARGV[at + 1], queue = ARGV[at + 2], kind = ARGV[at + 3],
    delay = tonumber(ARGV[at + 4]), ttl = tonumber(ARGV[at + 5]), value = ARGV[at + 6],
    exc = ARGV[at + 7], error = ARGV[at + 8], result = ARGV[at + 9], detail = ARGV[at + 10],
    retries_left = ARGV[at + 11], artifacts = ARGV[at + 12] })
  answers[i] = ok and answer or 'broken'
  if not ok then pcall(bury, ARGV[at + 2], ARGV[at], answer, ARGV[4]) end
end
if stored[1] then
  call('HSET', wkey, 'x_end', seq, 'x_end_answer', cjson.encode(answers))
  if call('SCARD', held_key(worker)) == 0 then call('HSET', wkey, 'state', 'idle') end
end
wake()
return answers
