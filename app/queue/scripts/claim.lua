-- claim: queued jobs become started, popped and recorded as executions in one step.
-- ARGV: prefix, worker, seq, free coroutine slots, free process slots, most jobs, most bytes,
--   exc_string of a broken record, count of queues in front that share a floor, most jobs from
--   those, n queues, queue …, n parts, queue, kind, id … passed before, names of `def` types …
-- Answer: {'register'} | {'suspended'} | {'ok', jobs, dropped ids, broken ids, more 0|1,
--   {queue, kind, id} … passed now}; a job is {id, execution, queue, attempt, values of FIELDS}.
--   A large body is left out (false).
local FIELDS = { 'status', 'x_type', 'data', 'timeout', 'x_timeout', 'x_attempt', 'x_max',
  'x_failures', 'x_abandoned', 'x_backoff', 'x_req', 'x_dry', 'x_result', 'retries_left',
  'retry_intervals', 'result_ttl', 'failure_ttl', 'created_at', 'x_trail', 'rate_limit_key',
  'x_interrupted', 'x_expires', 'x_stop', 'origin' }
-- After those, where no type is named: what only a stock producer writes.
local STOCK_FIELDS = { 'success_callback_name', 'failure_callback_name', 'stopped_callback_name',
  'repeats_left', 'group_id', 'webhooks', 'x_stock' }
local STATUS, TYPE, DATA, TIMEOUT, ATTEMPT, TTL, TRAIL = 1, 2, 3, 4, 6, 16, 19
local EXPIRES, STOP, ORIGIN = 22, 23, 24
local NUMBERS = { [ATTEMPT] = 'x_attempt', [8] = 'x_failures', [14] = 'retries_left',
  [17] = 'failure_ttl' }
local LARGE_BODY = 262144
-- Jobs that no slot is free for stay, and those behind them are looked at: in front of the
-- queue always, as jobs go back there; then from where this worker was, some at a time.
local FRONT, PAGE, MOST_PASSED = 64, 250, 500
-- Taking a job from far inside its queue costs the server about 10 ns an entry before it.
local DEEP, MOST_REACH = 500, 250000

local worker, seq = ARGV[2], tonumber(ARGV[3])
local coroutines, processes = tonumber(ARGV[4]), tonumber(ARGV[5])
local most, bytes_left, broken_exc = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
local floor_queues, floor_jobs = tonumber(ARGV[9]), tonumber(ARGV[10])
local queue_count = tonumber(ARGV[11])
local marks_at = 12 + queue_count
local types_at = marks_at + 1 + tonumber(ARGV[marks_at])
local needs_process, passed_before = {}, {}
for i = types_at, #ARGV do needs_process[ARGV[i]] = true end
for i = marks_at + 1, types_at - 1, 3 do
  passed_before[ARGV[i + 1] .. ARGV[i]] = ARGV[i + 2]
end

local wkey = worker_key(worker)
local record = call('HMGET', wkey, 'birth', 'x_claim', 'death')
-- Without a record nobody would notice this worker's silence: it must be born first. A claim
-- that was under way when its worker left, and comes after that, takes nothing.
if not record[1] or record[3] then return { 'register' } end

local jobs, dropped, broken, passed = {}, {}, {}, {}

-- The values of FIELDS, and whether the body was left out for its size.
local function read(id)
  local names, large = FIELDS, call('HSTRLEN', job_key(id), 'data') > LARGE_BODY
  if large then
    names = { unpack(FIELDS) }
    names[DATA] = 'x_none'
  end
  local values = call('HMGET', job_key(id), unpack(names))
  bytes_left = bytes_left - (values[DATA] and #values[DATA] or 0)
  if not values[TYPE] then
    for _, value in ipairs(call('HMGET', job_key(id), unpack(STOCK_FIELDS))) do
      values[#values + 1] = value
    end
  end
  return values, large
end

-- The reply to this very claim was lost: what it took is still recorded, with its seq.
if record[2] and seq <= tonumber(record[2]) then
  local mark = '-' .. ARGV[3] .. '-'
  for _, composite in ipairs(call('SMEMBERS', held_key(worker))) do
    local id, ex = split_composite(composite)
    if string.find(ex, mark, 1, true) and has(execution_key(composite)) then
      local values = read(id)
      jobs[#jobs + 1] = { id, ex, call('HGET', job_key(id), 'origin'), tonumber(values[ATTEMPT]), values }
    end
  end
  return { 'ok', jobs, {}, {}, 0, {} }
end

if has(P .. ':suspended') then return { 'suspended' } end

-- Lua also reads 'inf', 'nan' and '1e300', which a TTL or a score cannot take.
local function check_number(text, name)
  if not text or text == '' then return nil end
  local number = tonumber(text)
  if not number or not (math.abs(number) < 1e10) then
    error({ cause = 'its ' .. name .. ' is not a number' })
  end
  return number
end

local function check(values, large)
  local timeout = check_number(values[TIMEOUT], 'timeout')
  for index, name in pairs(NUMBERS) do check_number(values[index], name) end
  if not values[DATA] and values[STATUS] and not large then
    error({ cause = 'it has no data' })
  end
  return (timeout and timeout > 0) and timeout or ENDLESS
end

-- Entries in front go together, as long as nothing else has moved in the queue since it was
-- read. One near the end is sought from there.
local reach, front, unmoved = 0, 0, true
local function take_out(q, id, at)
  if at == 0 and unmoved then
    front = front + 1
    return
  end
  if at <= DEEP then return call('LREM', queue_key(q), 1, id) end
  local behind = call('LLEN', queue_key(q)) - at
  reach = reach + math.min(at, behind)
  call('LREM', queue_key(q), behind < at and -1 or 1, id)
end

local function drop_front(q)
  if front > 0 then call('LTRIM', queue_key(q), front, -1) end
  front = 0
end

-- What is taken, written once for all jobs: {score, composite …} of a queue, and all composites.
local wip, held, claimed = {}, {}, {}
local own_part = string.match(worker, '[^.]*$')

local function start(q, id, at, values, timeout)
  local key, horizon = job_key(id), timeout + HORIZON
  local ex = string.format('%s-%d-%d', own_part, seq, #jobs + 1)
  local composite = id .. ':' .. ex
  local attempt = (tonumber(values[ATTEMPT] or '') or 0) + 1
  take_out(q, id, at)
  spare(id)
  call('HSET', key, 'status', 'started', 'started_at', NOW_ISO, 'last_heartbeat', NOW_ISO,
    'worker_name', worker, 'x_attempt', attempt, 'origin', q, 'x_trail',
    append_trail(id, values[TRAIL], 'started',
      string.format('{"attempt":%d,"worker":"%s"}', attempt, worker)))
  if values[EXPIRES] then redis.pcall('ZREM', OURS .. 'expires', id) end
  call('HSET', execution_key(composite), 'id', ex, 'job_id', id, 'created_at', NOW,
    'last_heartbeat', NOW, 'worker_name', worker)
  call('EXPIRE', execution_key(composite), math.ceil(horizon))
  call('ZADD', P .. ':executions:' .. id, NOW_S + horizon, ex)
  call('EXPIRE', P .. ':executions:' .. id, math.ceil(horizon))
  wip[#wip + 1] = NOW_S + horizon
  wip[#wip + 1] = composite
  held[#held + 1] = composite
  tally('claimed', q, values[TYPE])
  local since = waits_since(values[TRAIL])
  if since then observe(WAIT, q, values[TYPE], (tonumber(NOW_US) - since) / 1e6) end
  jobs[#jobs + 1] = { id, ex, q, attempt, values }
end

-- Canceled instead of run: it was to be stopped in its last run, or its time is over.
local function refuse(q, id, values)
  local expires = tonumber(values[EXPIRES] or '')
  local expired = expires and expires <= NOW_MS and not values[ATTEMPT]
  if not values[STOP] and not expired then return false end
  drop_front(q)
  unmoved = false
  local detail = values[STOP] and cjson.encode({ reason = 'requested', by = values[STOP] })
  cancel_waiting(id, { status = 'queued', origin = values[ORIGIN] or q, ttl = values[TTL] },
    values[STOP] and 'requested' or 'expired', detail)
  settle_just_ended()
  call('HDEL', job_key(id), 'x_stop')
  return true
end

-- The kind of job that no slot is free for, while there is one for the other.
local function blocked_kind()
  return processes <= 0 and 'p' or coroutines <= 0 and 'c' or nil
end

-- True when the entry, number `at`, was dealt with; false when it must wait for a free slot.
local function consider(q, id, at)
  if coroutines <= 0 or processes <= 0 then
    local type_name = call('HGET', job_key(id), 'x_type')
    local in_process = type_name and needs_process[type_name]
    if (in_process and processes or coroutines) <= 0 then
      -- A stock job's type cannot be read here (its data is compressed): any slot will do.
      if type_name or processes <= 0 then return false end
    end
  end
  local values, large = read(id)
  local status = values[STATUS]
  local is_none = not status and not values[DATA] and not has(job_key(id))
  if is_none or not is_id(id) then
    put_aside(id)
    take_out(q, id, at)
    dropped[#dropped + 1] = id
    return true
  end
  local waiting = status == 'queued' or status == 'created' or not status
  if (not waiting and status ~= 'started') or live_execution(id) then
    take_out(q, id, at) -- a doubled or stale entry; the job is elsewhere
    return true
  end
  local timeout = check(values, large)
  if refuse(q, id, values) then return true end
  start(q, id, at, values, timeout)
  local in_process = values[TYPE] and needs_process[values[TYPE]]
  if in_process or coroutines <= 0 then processes = processes - 1 else coroutines = coroutines - 1 end
  return true
end

-- True when the entry is no longer there.
local function deal_with(q, id, at)
  local in_front = front
  local ok, answer = pcall(consider, q, id, at)
  if ok then return answer end
  front = math.min(front, in_front)
  drop_front(q)
  unmoved = false
  call('LREM', queue_key(q), 1, id)
  pcall(bury, q, id, answer, broken_exc)
  broken[#broken + 1] = id
  return true
end

local looked, more = 0, 0
local function has_room(limit)
  return #jobs < limit and bytes_left > 0 and (coroutines > 0 or processes > 0)
end

-- `at` is the place of the next entry, and how many in front of it were left there; `kind` is
-- theirs, and `last` the last of them.
local function look_through(q, limit)
  local key, at, kind, last, jumped = queue_key(q), 0, nil, nil, false
  while has_room(limit) and more == 0 do
    local blocked = blocked_kind()
    local mark = blocked and at >= FRONT and not jumped and passed_before[blocked .. q]
    if mark then
      local found = call('LPOS', key, mark, 'RANK', -1)
      if found and found >= at then at, last = found + 1, mark end
      jumped = true
    end
    local count = not blocked and limit - #jobs or at < FRONT and FRONT or PAGE
    local ids = call('LRANGE', key, at, at + count - 1)
    unmoved = true
    for _, id in ipairs(ids) do
      if not has_room(limit) then break end
      if not deal_with(q, id, at) then
        at, kind, last = at + 1, blocked_kind(), id
        if at > FRONT then looked = looked + 1 end
      end
      if reach > MOST_REACH or looked >= MOST_PASSED then more = 1; break end
    end
    drop_front(q)
    if #ids < count then break end
  end
  if kind and at > FRONT then passed[#passed + 1] = { q, kind, last } end
end

local paused = {}
for _, name in ipairs(redis.pcall('SMEMBERS', OURS .. 'paused')) do paused[name] = true end

-- How many left a queue in which minute: what an estimate of waiting is made from.
local RATE_SECONDS = 180
local function count_claims(q, count)
  local key = OURS .. 'claimed:' .. q .. ':' .. math.floor(NOW_S / 60)
  call('INCRBY', key, count)
  call('EXPIRE', key, RATE_SECONDS)
end

-- A key of another type would stop the claim half-way, with jobs in no place.
local function is_free_for(key, kind)
  local found = call('TYPE', key).ok
  return found == 'none' or found == kind
end
if not is_free_for(held_key(worker), 'set') then
  return redis.error_reply('WRONGTYPE ' .. held_key(worker) .. ' is no set')
end

for i = 1, queue_count do
  local q, before = ARGV[11 + i], #jobs
  local limit = i <= floor_queues and math.min(floor_jobs, most) or most
  if not has_room(limit) and i > floor_queues or more == 1 then break end
  if not paused[base_queue(q)] and call('TYPE', queue_key(q)).ok == 'list'
    and is_free_for(P .. ':wip:' .. q, 'zset') then
    look_through(q, limit)
  end
  if #jobs > before then
    call('ZADD', P .. ':wip:' .. q, unpack(wip))
    wip = {}
    claimed[q] = (claimed[q] or 0) + #jobs - before
  end
end
if #held > 0 then call('SADD', held_key(worker), unpack(held)) end
for q, count in pairs(claimed) do pcall(count_claims, q, count) end

redis.pcall('ZADD', OURS .. 'beats', 'XX', NOW_MS, worker)
if #jobs > 0 then call('HSET', wkey, 'x_claim', seq, 'state', 'busy') end
wake()
return { 'ok', jobs, dropped, broken, more, passed }
