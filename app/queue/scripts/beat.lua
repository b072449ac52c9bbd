-- beat: the worker is alive, and learns which of its executions to stop or let go.
-- ARGV: prefix, worker, ttl seconds, newest claim whose answer arrived, what it says of the
--   mail server, execution (job:ex) …
-- Answer: {'register'} | {'ok', lost executions, executions to stop, count put back}.
local worker, ttl, arrived = ARGV[2], ARGV[3], tonumber(ARGV[4])
local wkey = worker_key(worker)
-- HSET on an expired hash would make one without TTL, a ghost: ask first.
if not has(wkey) then return { 'register' } end
call('ZADD', OURS .. 'beats', NOW_MS, worker)
call('HSET', wkey, 'last_heartbeat', NOW_ISO, 'state', #ARGV > 5 and 'busy' or 'idle',
  'x_mail', ARGV[5])
call('EXPIRE', wkey, ttl)

local known, lost, stop, back = {}, {}, {}, 0
for i = 6, #ARGV do
  local composite = ARGV[i]
  known[composite] = true
  local execution = call('HMGET', execution_key(composite), 'worker_name', 'x_stop')
  if execution[1] ~= worker then lost[#lost + 1] = composite
  elseif execution[2] then stop[#stop + 1] = composite end
end

-- Claims whose answer never arrived: recorded as ours, and running nowhere.
for _, composite in ipairs(call('SMEMBERS', held_key(worker))) do
  local id, ex = split_composite(composite)
  local claimed = ex and tonumber(string.match(ex, '%-(%d+)%-%d+$') or '')
  if not known[composite] and claimed and claimed <= arrived then
    local job = call('HMGET', job_key(id), 'origin', 'status')
    local live = has(execution_key(composite))
    drop_execution(worker, job[1] or '', id, ex)
    if live and job[2] == 'started' and not live_execution(id, ex) then
      call('HSET', job_key(id), 'status', 'queued')
      note(id, 'interrupted')
      push(job[1], id, true)
      back = back + 1
    end
  end
end
wake()
return { 'ok', lost, stop, back }
