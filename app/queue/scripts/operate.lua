-- operate: the next jobs of an operation are retried or discarded. What it has done is written
-- with it, so that whoever goes on after a crash does none of it twice.
-- ARGV: prefix, operation, most jobs, most jobs a queue, most bytes a queue, exc_string of a
--   broken record
-- Answer: {state, ms to wait before the next call, total, done, failed}
local id, most = ARGV[2], tonumber(ARGV[3])
local budgets, broken_exc = { tonumber(ARGV[4]), tonumber(ARGV[5]) }, ARGV[6]
local key, KEPT_SECONDS = OURS .. 'operation:' .. id, 30 * 86400
local PAUSED_MS, FULL_MS, POLL_MS, LONGEST_POLL_MS, LOOKS = 60000, 5000, 100, 5000, 1000
-- How many jobs go first, and then; each time how they end is waited for.
local CANARY = { 1, 10 }

local op, stored = {}, call('HGETALL', key)
for i = 1, #stored, 2 do op[stored[i]] = stored[i + 1] end
if not op.state then return { 'stopped', 0, 0, 0, 0 } end
local total, done, failed = tonumber(op.total), tonumber(op.done), tonumber(op.failed)
local at, after = tonumber(op.at), tonumber(op.after)
local filter = cjson.decode(op.filter)

local function answer(state, wait_ms) return { state, math.ceil(wait_ms), total, done, failed } end

local function finish(state, by)
  call('HSET', key, 'state', state, 'finished', NOW_US)
  if by then call('HSET', key, 'stopped_by', by) end
  call('DEL', key .. ':canary')
  return answer(state, 0)
end

-- How many canaries' end is still waited for; and how many somebody has ended who wanted them
-- to tell nothing.
local function look_at_canaries()
  local silent = 0
  for _, job in ipairs(call('SMEMBERS', key .. ':canary')) do
    local record = call('TYPE', job_key(job)).ok == 'hash'
      and call('HMGET', job_key(job), 'status', 'x_op') or {}
    local status = record[1]
    local is_silent = status == 'canceled' or status == 'stopped'
    -- One that somebody else has taken up is theirs.
    if not status or is_silent or status == 'finished' or status == 'failed'
      or record[2] ~= id then
      call('SREM', key .. ':canary', job)
      if is_silent then silent = silent + 1 end
    end
  end
  return call('SCARD', key .. ':canary'), silent
end

-- At a pace: how many are due, and when the next is. What was missed is not made up for.
local function due_now(pace)
  local next_at = math.max(tonumber(op.next or '') or NOW_S, NOW_S - 1)
  if next_at > NOW_S then return 0, next_at end
  return math.floor((NOW_S - next_at) * pace) + 1, next_at
end

local function discard(job)
  call('ZREM', P .. ':failed:' .. job.queue, job.id)
  clears = true
  remove(job.id)
  clears = false
end

-- 'done', 'full', or nil: it has left the selection by itself.
local function act_on(member)
  local job = find_retryable(member)
  if not job or not fits(member, filter) then return nil end
  if op.action == 'discard' then
    discard(job)
    return 'done'
  end
  if over_budget({ [job.queue] = { 1, size_of(member) } }, unpack(budgets)) then return 'full' end
  retry_job(job, cjson.encode({ by = op.by, retried = true, operation = id }))
  local base = base_queue(job.queue)
  if op.queue ~= base then
    op.queue = base
    call('HSET', key, 'queue', base)
  end
  if op.canary == '1' then call('HSET', job_key(member), 'x_op', id) end
  return 'done'
end

local function try(member)
  local ok, what = pcall(act_on, member)
  clears = false
  if ok then return what end
  -- To the failed registry again, with why; behind what this is about.
  local q = call('TYPE', job_key(member)).ok == 'hash' and call('HGET', job_key(member), 'origin')
  pcall(bury, q or 'default', member, what, broken_exc)
  return 'failed'
end

-- The next that may fit, their numbers, and how far that looks: {ids, numbers, number, looks}.
local function next_piece(fp, limit, looks)
  local is_all, jobs = next(filter) == nil, failure_key(fp, ':jobs')
  local ids = members(fp, after, op.before, is_all and math.min(limit, looks) or looks)
  local last = ids[#ids] and tonumber(call('ZSCORE', jobs, ids[#ids]))
  local chosen = is_all and ids or fitting(ids, filter)
  return chosen, scores(jobs, chosen), last, #ids
end

-- Up to so many jobs. Answers whether there are no more, and whether a queue is full.
local function work(limit, is_canary)
  -- Mostly all fit; where few do, it looks further each time.
  local acted, looked, piece = 0, 0, 2 * limit
  while acted < limit and looked < LOOKS do
    local fp = call('ZRANGE', key .. ':causes', at, at)[1]
    if not fp then return acted, true end
    local ids, numbers, last, looks = next_piece(fp, limit - acted, math.min(piece, LOOKS - looked))
    looked, piece = looked + math.max(1, looks), 2 * piece
    for i, id in ipairs(ids) do
      if acted == limit then return acted, false, false end
      local what = try(id)
      if what == 'full' then return acted, false, true end
      after = tonumber(numbers[i])
      if what == 'done' then done, acted = done + 1, acted + 1
      elseif what == 'failed' then failed = failed + 1 end
      if what == 'done' and is_canary then call('SADD', key .. ':canary', id) end
    end
    if last then after = last else at, after = at + 1, 0 end
  end
  return acted, false, false
end

-- What is next of one that runs.
local function step()
  local stage = op.canary == '1' and (tonumber(op.stage or '') or 1) or #CANARY + 1
  local in_stage = tonumber(op.in_stage or '') or 0
  if stage <= #CANARY and in_stage >= CANARY[stage] or op.exhausted then
    local left, silent = look_at_canaries()
    -- Others take their places.
    in_stage = in_stage - silent
    call('HSET', key, 'in_stage', in_stage)
    if left > 0 then
      local polls = call('HINCRBY', key, 'polls', 1)
      return answer('running', math.min(LONGEST_POLL_MS, POLL_MS * 1.5 ^ math.min(polls, 20)))
    end
    if op.exhausted then return finish('finished') end
    if in_stage >= CANARY[stage] then stage, in_stage = stage + 1, 0 end
    call('HDEL', key, 'polls')
  end

  local is_canary = stage <= #CANARY
  local limit, next_at, pace = most, nil, tonumber(op.pace or '')
  if is_canary then limit = math.min(limit, CANARY[stage] - in_stage) end
  if pace then
    local due
    due, next_at = due_now(pace)
    limit = math.min(limit, due)
  end
  local acted, exhausted, full = work(limit, is_canary)
  -- A worker that died on the way has done its part.
  call('HDEL', job_key(id), 'x_abandoned')
  call('HSET', key, 'state', 'running', 'done', done, 'failed', failed, 'at', at,
    'after', string.format('%.0f', after), 'stage', stage, 'in_stage', in_stage + acted)
  if pace then call('HSET', key, 'next', string.format('%.6f', next_at + acted / pace)) end
  wake()
  if exhausted then
    if not is_canary then return finish('finished') end
    call('HSET', key, 'exhausted', 1)
    return answer('running', POLL_MS)
  end
  if full then return answer('running', FULL_MS) end
  if is_canary and in_stage + acted >= CANARY[stage] then return answer('running', POLL_MS) end
  return answer('running', pace and math.max(0, (next_at + acted / pace - NOW_S) * 1000) or 0)
end

if op.state == 'stopped' or op.state == 'finished' then return answer(op.state, 0) end
for _, each in ipairs({ key, key .. ':causes', key .. ':canary' }) do
  call('EXPIRE', each, KEPT_SECONDS)
end
if op.state == 'paused' then return answer('paused', PAUSED_MS) end
if op.returned then return finish('stopped', op.returned) end
return step()
