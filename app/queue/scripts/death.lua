-- death: the worker leaves. What it still held runs nowhere any more and goes back in front.
-- ARGV: prefix, worker
local worker = ARGV[2]
local key = worker_key(worker)
local back = 0
for _, composite in ipairs(call('SMEMBERS', held_key(worker))) do
  local ok, given = pcall(give_back, worker, composite)
  if ok and given then back = back + 1 end
end
local queues = call('HGET', OURS .. 'listens', worker) or ''
call('SREM', P .. ':workers', key)
for q in string.gmatch(queues, '[^,]+') do call('SREM', P .. ':workers:' .. q, key) end
if has(key) then
  call('HSET', key, 'death', NOW_ISO)
  call('EXPIRE', key, 60)
end
call('DEL', held_key(worker))
call('ZREM', OURS .. 'beats', worker)
call('HDEL', OURS .. 'listens', worker)
wake()
return back
