-- operation: one is begun, as a job of its own; or somebody pauses, resumes or stops it.
-- ARGV: prefix, act (start pause resume stop), operation, by, then of `start`: action, total,
--   number of the last failure that it is about, pace ('' none), canary 0|1, filter JSON,
--   the job as packing.py has it, fields of its record as JSON, what was asked for as JSON,
--   fingerprint …
-- Answer: {'none'} | {'ended', state} | {'done'}
local act, id, by = ARGV[2], ARGV[3], ARGV[4]
local key, OPERATION_SECONDS = OURS .. 'operation:' .. id, 30 * 86400
local target = '/v1/operations/' .. id
local ENDED = { finished = true, stopped = true }
-- In order of id, which is that of time; each as long as its record is kept.
local LISTED, OLDEST_LOOKED_AT = OURS .. 'operations', 20

local function enlist()
  call('ZADD', LISTED, 0, id)
  for _, old in ipairs(call('ZRANGE', LISTED, 0, OLDEST_LOOKED_AT - 1)) do
    if not has(OURS .. 'operation:' .. old) then call('ZREM', LISTED, old) end
  end
end

if act == 'start' then
  if has(key) then return { 'done' } end -- the call came again, as its reply was lost
  local action, total, canary = ARGV[5], tonumber(ARGV[6]), ARGV[9] == '1'
  local facts = { operation = target, count = total, filter = cjson.decode(ARGV[13]) }
  if ARGV[8] ~= '' then facts.pace = tonumber(ARGV[8]) end
  if canary then facts.canary = true end
  audit(by, action, '/v1/failures', facts)
  call('HSET', key, 'action', action, 'state', 'queued', 'total', total, 'before', ARGV[7],
    'pace', ARGV[8], 'canary', ARGV[9], 'filter', ARGV[10], 'by', by, 'created', NOW_US,
    'done', 0, 'failed', 0, 'at', 0, 'after', 0, 'asked', ARGV[13])
  for i = 14, #ARGV do call('ZADD', key .. ':causes', i - 14, ARGV[i]) end
  enlist()
  local job = cjson.decode(ARGV[11])
  job.fields = cjson.decode(ARGV[12])
  call('HINCRBY', OURS .. 'bytes', base_queue(job.queue), job.size)
  accept(job)
  tally('submitted', job.queue, job.type)
  for _, each in ipairs({ key, key .. ':causes' }) do call('EXPIRE', each, OPERATION_SECONDS) end
  wake()
  return { 'done' }
end

local found = call('HMGET', key, 'state')
if not found[1] then return { 'none' } end
if ENDED[found[1]] then return { 'ended', found[1] } end
audit(by, act, target)
if act == 'pause' then
  call('HSET', key, 'state', 'paused')
elseif act == 'stop' then
  call('HSET', key, 'state', 'stopped', 'stopped_by', by, 'finished', NOW_US)
elseif found[1] == 'paused' then
  call('HSET', key, 'state', 'running')
  call('HDEL', key, 'next', 'polls')
end
-- Its job may have put itself off: it looks at once.
local q = call('HGET', job_key(id), 'origin')
if q and call('ZSCORE', P .. ':scheduled:' .. q, id) then
  call('ZADD', P .. ':scheduled:' .. q, 'XX', NOW, id)
  call('PUBLISH', OURS .. 'wake', '@')
end
return { 'done' }
