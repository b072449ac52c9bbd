-- schedule: one is made, replaced or deleted, by a key or as the file says it.
-- ARGV: prefix, act (create replace declare delete drop), schedule, by, then unless it goes:
--   what it is as JSON, its timing, its next tick, its anchor, its revision, request id, most
--   schedules
-- Answer: {word}: created replaced same; none taken file many; done
-- Of equal timing the next tick stays what it was: to change a job skips none and repeats none.
local act, name, by = ARGV[2], ARGV[3], ARGV[4]
local key, all = OURS .. 'schedule:' .. name, OURS .. 'schedules'
local target, waiting = '/v1/schedules/' .. name, OURS .. 'schedules_put_off'
local found = call('HMGET', key, 'rev', 'source', 'timing', 'spec')
local is_there, of_file = found[1], found[2] == 'file'

if act == 'delete' or act == 'drop' then
  if not is_there then return { 'none' } end
  if of_file ~= (act == 'drop') then return { 'file' } end
  audit(by, 'delete', target)
  call('DEL', key, key .. ':runs')
  call('ZREM', all, name)
  call('SREM', waiting, name)
  return { 'done' }
end

local spec, timing, next_at, anchor, rev, request, most = unpack(ARGV, 5, 11)
if act == 'create' and is_there then
  -- The call came again, as its reply was lost.
  return { found[1] == rev and 'created' or 'taken' }
end
if act == 'replace' and of_file then return { 'file' } end
if act == 'declare' and of_file and found[4] == spec then return { 'same' } end
if not is_there and call('ZCARD', all) >= tonumber(most) then return { 'many' } end

audit(by, is_there and 'replace' or 'create', target)
call('HSETNX', key, 'created', NOW_US)
call('HSETNX', key, 'seed', rev)
call('HSET', key, 'rev', rev, 'spec', spec, 'by', by, 'request', request, 'updated', NOW_US,
  'source', act == 'declare' and 'file' or 'http')
call('HDEL', key, 'fault')
if found[3] ~= timing then
  call('HSET', key, 'timing', timing, 'next', next_at, 'anchor', anchor)
  call('HDEL', key, 'put_off')
  call('SREM', waiting, name)
  call('ZADD', all, next_at, name)
else
  -- What was put off is tried with what it is now.
  call('ZADD', all, call('HGET', key, 'next'), name)
end
call('PUBLISH', OURS .. 'wake', '@')
return { is_there and 'replaced' or 'created' }
