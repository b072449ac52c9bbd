-- promote: scheduled jobs that are due become queued; what waited too long is canceled.
-- ARGV: prefix, most jobs, exc_string of a broken record
-- Answer: {count, ms until the next is due or expires, or -1, {id, type, queue, attempt,
--   request id} …, queue …}.
local most, moved, next_due, ids = tonumber(ARGV[2]), 0, nil, {}

local function move(q, id)
  call('ZREM', P .. ':scheduled:' .. q, id)
  if not is_id(id) then return put_aside(id) end
  local job = call('HMGET', job_key(id), 'status', 'x_type', 'x_attempt', 'x_req',
    'rate_limit_key', 'rate_limit_concurrency')
  if job[1] ~= 'scheduled' then return end
  unindex_status(id, 'scheduled')
  note(id, 'queued')
  enqueue(id, q, false, job[5], job[6])
  moved = moved + 1
  ids[moved] = { id, job[2] or '', q, tonumber(job[3] or '') or 0, job[4] or '' }
end

local WAITING = { queued = true, scheduled = true, deferred = true, rate_limited = true }

local function expire(id)
  local job = call('HMGET', job_key(id), 'status', 'origin', 'result_ttl', 'x_attempt')
  if WAITING[job[1]] and job[2] and not job[4] then
    cancel_waiting(id, { status = job[1], origin = job[2], ttl = job[3] }, 'expired')
  end
end

-- A key that is something else keeps no job from its time: it is as if it were not there.
for _, id in ipairs(redis.pcall('ZRANGEBYSCORE', OURS .. 'expires', '-inf', NOW_MS, 'LIMIT', 0, most)) do
  call('ZREM', OURS .. 'expires', id)
  pcall(expire, id)
end
settle_just_ended()

local ok, names = pcall(queue_names)
if not ok then names = {} end
for _, q in ipairs(names) do
  local key = P .. ':scheduled:' .. q
  -- A stock scheduler that holds the queue's lock works on it in several steps: doing the
  -- same here doubled entries. Within this script nobody else can take the lock.
  if call('TYPE', key).ok == 'zset' and not has(P .. ':scheduler-lock:' .. q) then
    for _, id in ipairs(call('ZRANGEBYSCORE', key, '-inf', NOW, 'LIMIT', 0, most - moved)) do
      local ok, problem = pcall(move, q, id)
      if not ok then pcall(bury, q, id, problem, ARGV[3]) end
    end
    local head = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if head[2] and (not next_due or tonumber(head[2]) < next_due) then next_due = tonumber(head[2]) end
  end
end
local expiring = redis.pcall('ZRANGE', OURS .. 'expires', 0, 0, 'WITHSCORES')
if expiring[2] then next_due = math.min(next_due or math.huge, tonumber(expiring[2]) / 1000) end
wake()
local wait = -1
if next_due then wait = math.max(0, math.ceil((next_due - NOW_S) * 1000)) end
return { moved, wait, ids, names }
