-- requeue: failed -> queued, for each of the jobs that is in its failed registry.
-- What RQ 3.0.0's FailedJobRegistry.requeue does, but in one step: RQ takes the id out of
-- the registry first and queues it in a second call, and a process that dies between the
-- two leaves the job nowhere. Times to live, set when it failed, are taken off too.
-- ARGV: key prefix, channel that wakes our workers, now in RQ's format, ids. Answer: how many were moved.
local P, wake, now = ARGV[1], ARGV[2], ARGV[3]
local moved, woken = 0, {}
local function is(kind, key, or_none)
  local found = redis.call('TYPE', key).ok
  return found == kind or (or_none and found == 'none')
end

for i = 4, #ARGV do
  local id = ARGV[i]
  local key = P .. ':job:' .. id
  local job = is('hash', key) and redis.call('HMGET', key, 'origin', 'rate_limit_key') or {}
  -- A stock rate-limited job has to get a slot first: only RQ's own tools do that.
  if job[1] and job[1] ~= '' and not job[2] then
    local queue, failed = P .. ':queue:' .. job[1], P .. ':failed:' .. job[1]
    if is('list', queue, true) and is('zset', failed) and redis.call('ZREM', failed, id) == 1 then
      redis.call('HSET', key, 'status', 'queued', 'enqueued_at', now, 'started_at', '', 'ended_at', '')
      redis.call('HDEL', key, 'exc_info')
      for _, each in ipairs({ key, key .. ':dependents', P .. ':job::' .. id .. ':dependencies',
        P .. ':results:' .. id }) do
        redis.call('PERSIST', each)
      end
      redis.call('SADD', P .. ':queues', queue)
      redis.call('RPUSH', queue, id)
      moved = moved + 1
      woken[#woken + 1] = job[1]
    end
  end
end
if moved > 0 then redis.call('PUBLISH', wake, table.concat(woken, ',')) end
return moved
