-- death: the worker leaves. What it still held runs nowhere any more and goes back in front.
-- ARGV: prefix, worker, exc_string of a broken record
local worker = ARGV[2]
local key = worker_key(worker)
local back = 0
for _, composite in ipairs(redis.pcall('SMEMBERS', held_key(worker))) do
  if give_up_held(worker, composite, ARGV[3]) then back = back + 1 end
end
strike_off(worker)
if has(key) then
  call('HSET', key, 'death', NOW_ISO)
  call('EXPIRE', key, 60)
end
call('DEL', held_key(worker))
call('ZREM', OURS .. 'beats', worker)
redis.pcall('HDEL', OURS .. 'listens', worker)
wake()
return back
