-- Concurrency keys, as RQ 3.0's own rate limits (rate_limit.py): a job that may run holds a
-- slot in `allowed` from when it is queued; the others wait in `rate_limited`, oldest first.
local function limit_key(key, part) return P .. ':rl:' .. key .. (part and (':' .. part) or '') end

local function make_queued(id, q, front)
  call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', NOW_ISO)
  push(q, id, front)
end

-- What waits may be stale by the thousand, where a stock tool deleted it: upkeep looks at the rest.
local FILLED_A_CALL = 100

-- True when a slot is free and there is more to look at.
local function fill_slots(key)
  local limit = tonumber(call('HGET', limit_key(key), 'concurrency') or '') or 0
  local allowed, waiting = limit_key(key, 'allowed'), limit_key(key, 'rate_limited')
  local looked = 0
  while call('ZCARD', allowed) < limit do
    if looked == FILLED_A_CALL then return has(waiting) end
    looked = looked + 1
    local found = call('ZPOPMIN', waiting)
    if #found == 0 then break end
    local id = found[1]
    local job = call('HMGET', job_key(id), 'origin', 'status', 'enqueue_at_front')
    if job[1] and job[2] == 'rate_limited' then
      call('ZADD', allowed, NOW, id)
      make_queued(id, job[1], job[3] == '1')
    end
  end
  if call('ZCARD', allowed) == 0 and call('ZCARD', waiting) == 0 then
    call('SREM', P .. ':rl-keys', key)
    call('DEL', limit_key(key))
  end
end

-- To the queue, or to wait for a slot of its key. Either is `queued` to a client.
local function enqueue(id, q, front, key, limit)
  if not key or key == '' then return make_queued(id, q, front) end
  call('SADD', P .. ':rl-keys', key)
  call('HSET', limit_key(key), 'concurrency', limit)
  call('HSET', job_key(id), 'status', 'rate_limited', 'enqueued_at', NOW_ISO)
  call('SADD', P .. ':queues', queue_key(q))
  call('ZADD', limit_key(key, 'rate_limited'), NOW, id)
  fill_slots(key)
end

local function enqueue_again(id, q, front)
  local limit = call('HMGET', job_key(id), 'rate_limit_key', 'rate_limit_concurrency')
  enqueue(id, q, front, limit[1], limit[2])
end

local function leave_slot(id, key)
  if not key or key == '' then return end
  local held = call('ZREM', limit_key(key, 'allowed'), id)
  call('ZREM', limit_key(key, 'rate_limited'), id)
  if held == 1 then fill_slots(key) end
end
