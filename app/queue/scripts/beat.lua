-- beat: the worker is alive, and learns which of its executions to stop or let go.
-- ARGV: prefix, worker, ttl seconds, newest claim whose answer arrived, what it says of the
--   mail server, exc_string of a broken record, execution (job:ex) …
-- Answer: {'register'} | {'ok', lost executions, executions to stop, count put back}.
local worker, ttl, arrived = ARGV[2], ARGV[3], tonumber(ARGV[4])
local wkey = worker_key(worker)
-- HSET on an expired hash would make one without TTL, a ghost: ask first. A beat that was under
-- way when its worker left would bring it back to life.
local record = call('HMGET', wkey, 'birth', 'death')
if not record[1] or record[2] then return { 'register' } end
call('ZADD', OURS .. 'beats', NOW_MS, worker)
-- What it has claimed, or ended, since this beat was under way counts: stock tools show the state.
local held = redis.pcall('SMEMBERS', held_key(worker))
call('HSET', wkey, 'last_heartbeat', NOW_ISO, 'state',
  #held > 0 and 'busy' or 'idle', 'x_mail', ARGV[5])
call('EXPIRE', wkey, ttl)

local known, lost, stop, back = {}, {}, {}, 0
for i = 7, #ARGV do
  local composite = ARGV[i]
  known[composite] = true
  local execution = call('HMGET', execution_key(composite), 'worker_name', 'x_stop')
  if execution[1] ~= worker then lost[#lost + 1] = composite
  elseif execution[2] then stop[#stop + 1] = composite end
end

-- Claims whose answer never arrived: recorded as ours, and running nowhere.
for _, composite in ipairs(held) do
  local id, ex = split_composite(composite)
  local claimed = ex and tonumber(string.match(ex, '%-(%d+)%-%d+$') or '')
  if not known[composite] and claimed and claimed <= arrived then
    -- A beat that fails would make the worker look dead.
    if give_up_held(worker, composite, ARGV[6]) then back = back + 1 end
  end
end
wake()
return { 'ok', lost, stop, back }
