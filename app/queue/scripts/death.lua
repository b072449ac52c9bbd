-- death: the worker leaves. What it still held runs nowhere any more and goes back in front.
-- ARGV: prefix, worker
local worker = ARGV[2]
local key = worker_key(worker)
local back = 0
for _, composite in ipairs(call('SMEMBERS', held_key(worker))) do
  local id, ex = split_composite(composite)
  local origin = id and call('HGET', job_key(id), 'origin')
  if origin then
    local live = has(execution_key(composite))
    drop_execution(worker, origin, id, ex)
    if live and call('HGET', job_key(id), 'status') == 'started' and not live_execution(id, ex) then
      call('HSET', job_key(id), 'status', 'queued')
      note(id, 'interrupted')
      push(origin, id, true)
      back = back + 1
    end
  end
end
local queues = call('HGET', key, 'queues') or ''
call('SREM', P .. ':workers', key)
for q in string.gmatch(queues, '[^,]+') do call('SREM', P .. ':workers:' .. q, key) end
if has(key) then
  call('HSET', key, 'death', NOW_ISO)
  call('EXPIRE', key, 60)
end
call('DEL', held_key(worker))
call('ZREM', OURS .. 'beats', worker)
wake()
return back
