-- control: acts of clients and operators on one job or queue.
-- ARGV: prefix, act (cancel delete pause resume mend), job id or queue, the acting key's name;
--   `mend` takes the codes of errors, with commas between them: queues that paused themselves
--   for one of these go on.
-- Answer: {'none'} | {'ended', status} | {'waiting', status} | {'done'} | {'stopping'}
local act, target, by = ARGV[2], ARGV[3], ARGV[4]
local ENDED = { finished = true, failed = true, canceled = true, stopped = true }

if act == 'pause' or act == 'resume' then
  audit(by, act, '/v1/queues/' .. target)
  call(act == 'pause' and 'SADD' or 'SREM', OURS .. 'paused', target)
  call('HDEL', OURS .. 'paused_why', target)
  if act == 'resume' then
    for _, q in ipairs({ target .. '.high', target, target .. '.low' }) do woken[q] = true end
    wake()
  end
  return { 'done' }
end

if act == 'mend' then
  local why = call('HGETALL', OURS .. 'paused_why')
  for i = 1, #why, 2 do
    local ok, error = pcall(cjson.decode, why[i + 1])
    if ok and string.find(',' .. target .. ',', ',' .. tostring(error.code) .. ',', 1, true) then
      call('SREM', OURS .. 'paused', why[i])
      call('HDEL', OURS .. 'paused_why', why[i])
      for _, q in ipairs({ why[i] .. '.high', why[i], why[i] .. '.low' }) do woken[q] = true end
    end
  end
  wake()
  return { 'done' }
end

local key = job_key(target)
if call('TYPE', key).ok ~= 'hash' then return { 'none' } end
local found = call('HMGET', key, 'status', 'origin', 'result_ttl', 'x_type')
local job = { status = found[1], origin = found[2] or 'default', ttl = found[3] }
if not job.status then return { 'none' } end
local facts = { status = job.status, type = found[4] or nil }

if act == 'delete' then
  if not ENDED[job.status] then return { 'waiting', job.status } end
  audit(by, 'delete', '/v1/jobs/' .. target, facts)
  for _, name in ipairs({ ':finished:', ':failed:', ':canceled:' }) do
    call('ZREM', P .. name .. job.origin, target)
  end
  clears = true
  remove(target)
  return { 'done' }
end

if ENDED[job.status] then return { 'ended', job.status } end
audit(by, 'cancel', '/v1/jobs/' .. target, facts)
local ex = live_execution(target)
if ex then
  -- The worker learns of it at once, or with its next beat. Who asked is told with the end.
  local execution = execution_key(target .. ':' .. ex)
  call('HSETNX', execution, 'x_stop', by)
  call('PUBLISH', P .. ':pubsub:' .. (call('HGET', execution, 'worker_name') or ''),
    cjson.encode({ command = 'stop-execution', job_id = target, execution_id = ex }))
  return { 'stopping' }
end
cancel_waiting(target, job, 'requested', cjson.encode({ reason = 'requested', by = by }))
settle_just_ended()
wake()
return { 'done' }
