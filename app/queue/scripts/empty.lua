-- empty: what waited in a queue when it was asked for is canceled, a piece at a time; what has
-- come since stays.
-- ARGV: prefix, queue, most jobs, when it was asked for (as the first call answers, which is told
--   in the audit trail; '' in that), the acting key's name, exc_string of a broken record
-- Answer: {canceled, 1 when there is more, when it was asked for}.
local q, most, by, broken_exc = ARGV[2], tonumber(ARGV[3]), ARGV[5], ARGV[6]
local asked_at = ARGV[4]
if asked_at == '' then
  asked_at = NOW_ISO
  local base, waiting = base_queue(q), 0
  for _, each in ipairs({ base .. '.high', base, base .. '.low' }) do
    if call('TYPE', queue_key(each)).ok == 'list' then
      waiting = waiting + call('LLEN', queue_key(each))
    end
  end
  audit(by, 'empty', '/v1/queues/' .. base, { waiting = waiting })
end
local detail = cjson.encode({ reason = 'requested', by = by })
local canceled = 0

-- False: it came later, and so did all behind it.
local function take(id)
  local kind = call('TYPE', job_key(id)).ok
  if kind == 'none' then return true end
  if kind ~= 'hash' then error({ cause = 'it is no hash' }) end
  local job = call('HMGET', job_key(id), 'status', 'result_ttl', 'enqueued_at')
  if job[3] and job[3] >= asked_at then return false end
  local waits = job[1] == 'queued' or job[1] == 'created' or job[1] == 'started'
  -- A doubled or stale entry: the job is elsewhere.
  if not waits or live_execution(id) then return true end
  -- It is out of its list already: looking through the whole of it again would take long.
  cancel_waiting(id, { status = 'taken', origin = q, ttl = job[2] }, 'requested', detail)
  settle_just_ended()
  canceled = canceled + 1
  return true
end

local more = 0
if call('TYPE', queue_key(q)).ok == 'list' then
  more = 1
  for _ = 1, most do
    local id = call('LPOP', queue_key(q))
    if not id then more = 0; break end
    local ok, taken = pcall(take, id)
    if not ok then pcall(bury, q, id, taken, broken_exc) end
    if ok and not taken then
      call('LPUSH', queue_key(q), id)
      more = 0
      break
    end
  end
end
wake()
return { canceled, more, asked_at }
