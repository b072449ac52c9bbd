-- tick: a schedule's tick becomes its job, or is put off, or is no more; and the next is awaited.
-- Whoever comes second, or comes again as the reply was lost, finds it done.
-- ARGV: prefix, schedule, its revision, the tick that it waits for, the next one, tick to run as
--   ('' none), 1 when it was missed, overlap (skip enqueue), fault ('' none), ms until it is
--   tried again, most jobs, most bytes, runs that are remembered, then with a tick to run as and
--   no fault: the job as packing.py has it, fields of its record as JSON
-- Answer: {word, …}: over; missed; moved; overlap, the job that has not ended; again, job;
--   put_off, why ('' it was said before); queued, status
local name, rev, due, next_at, run_at = unpack(ARGV, 2, 6)
local key, runs = OURS .. 'schedule:' .. name, OURS .. 'schedule:' .. name .. ':runs'
local found = call('HMGET', key, 'rev', 'next', 'put_off', 'fault')
if found[1] ~= rev or found[2] ~= due then return { 'over' } end
-- Names of those whose tick waits because its job could not be made.
local WAITING = OURS .. 'schedules_put_off'
local ENDED = { finished = true, failed = true, stopped = true, canceled = true }

local function go_on(skipped)
  call('HSET', key, 'next', next_at)
  call('HDEL', key, 'put_off')
  call('SREM', WAITING, name)
  call('ZADD', OURS .. 'schedules', next_at, name)
  if skipped then call('HSET', key, 'skip_at', due, 'skip_reason', skipped) end
end

local function put_off(why)
  local again = math.min(NOW_MS + tonumber(ARGV[10]), tonumber(next_at))
  call('HSET', key, 'put_off', due, 'fault', why)
  call('SADD', WAITING, name)
  call('ZADD', OURS .. 'schedules', again, name)
  return { 'put_off', (found[3] == due and found[4] == why) and '' or why }
end

if run_at == '' then
  go_on(ARGV[7] == '1' and 'missed' or nil)
  return { ARGV[7] == '1' and 'missed' or 'moved' }
end
local last = call('LINDEX', runs, 0)
if ARGV[8] == 'skip' and last then
  local status = call('HGET', job_key(last), 'status')
  if status and not ENDED[status] then
    go_on('overlap')
    return { 'overlap', last }
  end
end
if ARGV[9] ~= '' then return put_off(ARGV[9]) end

local job = cjson.decode(ARGV[14])
job.fields = cjson.decode(ARGV[15])
if has(job_key(job.id)) then
  -- The clock was put back over a tick that had its job.
  go_on()
  return { 'again', job.id }
end
local wrong = check_types(job)
if wrong then return put_off('the key ' .. wrong .. ' holds something else') end
local wanted = { [job.queue] = { 1, job.size } }
local full = over_budget(wanted, tonumber(ARGV[11]), tonumber(ARGV[12]))
if full then
  return put_off('too many ' .. (full[1] == 5 and 'jobs' or 'bytes') .. ' wait in queue ' .. job.queue)
end
local ok, status = pcall(accept, job)
if not ok then
  pcall(call, 'LREM', queue_key(job.queue), 0, job.id)
  pcall(remove, job.id)
  return put_off('its job could not be recorded')
end
count_bytes(wanted)
tally('submitted', job.queue, job.type)
call('LPUSH', runs, job.id)
call('LTRIM', runs, 0, tonumber(ARGV[13]) - 1)
call('HDEL', key, 'fault')
go_on()
wake()
return { 'queued', status }
