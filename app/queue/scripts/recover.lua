-- recover: executions whose worker is silent go back to their queue, and all upkeep.
-- ARGV: prefix, silence ms, abandoned limit, failure ttl, exc_string of an abandoned job,
--   upkeep interval ms
-- Answer: {gap 0|1, more 0|1, {id, type, queue, attempt, fate, worker, request id} …,
--   batches that were committed and whose jobs are not all queued yet, {id, data} … of stock
--   producers' jobs that nobody has said the type of (`adopt`)}
local silence, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
local failure_ttl, abandoned_exc, upkeep_ms = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local beats, last_key = OURS .. 'beats', OURS .. 'recovered_at'
local MOST, MOST_WORKERS, MOST_ENDED, SEEN_SECONDS, READY_SECONDS = 50, 8, 200, 60, 5
local SWEEP, MOST_QUEUES = 200, 3
local WALK, MOST_STRANGERS, LARGE_BODY, data_left = 1000, 32, 262144, 1048576
local fates, more, strangers = {}, 0, {}

-- If nobody could ask for half the silence (Redis was away, or its clock jumped), nobody
-- could beat either: their silence says nothing. Count it anew from here.
local last = tonumber(call('SET', last_key, NOW_MS, 'GET') or '')
if not last or last > NOW_MS or NOW_MS - last > silence / 2 then
  for _, worker in ipairs(call('ZRANGE', beats, 0, -1)) do call('ZADD', beats, NOW_MS, worker) end
  return { 1, 0, {}, {}, {} }
end

local function abandon(worker, q, id, ex)
  local stop = call('HGET', execution_key(id .. ':' .. ex), 'x_stop')
  drop_execution(worker, q, id, ex)
  local key = job_key(id)
  local job = call('HMGET', key, 'status', 'x_type', 'x_attempt', 'x_abandoned', 'failure_ttl', 'x_req',
    'result_ttl')
  if job[1] ~= 'started' or live_execution(id, ex) then return end
  local count = (tonumber(job[4] or '') or 0) + 1
  local fate = 'requeued'
  call('HSET', key, 'x_abandoned', count)
  tally('recovered', q, job[2])
  note(id, 'recovered', string.format('{"worker":"%s"}', worker or ''))
  if stop then
    fate = 'stopped'
    local ttl = tonumber(job[7] or '') or ENDLESS
    call('HSET', key, 'status', 'stopped', 'ended_at', NOW_ISO, 'x_reason', 'requested')
    call('ZADD', P .. ':failed:' .. q, registry_score(ttl), id)
    note(id, 'stopped', cjson.encode({ reason = 'requested', by = stop }))
    leave(id, 'stopped')
    settle_dependents(id, 'stopped')
    keep_failed(id, ttl)
  elseif count >= limit then
    fate = 'failed'
    note(id, 'failed')
    fail(id, q, cjson.encode({ code = 'abandoned', class = 'AbandonedJobError', retryable = false,
      message = 'Its worker died ' .. count .. ' times while running it',
      fingerprint = fingerprint_of(job[2], 'AbandonedJobError',
        'Its worker died … times while running it') }), abandoned_exc,
      tonumber(job[5] or '') or failure_ttl)
  else
    put_back(id, q)
  end
  fates[#fates + 1] = { id, job[2] or '', q, tonumber(job[3] or '') or 0, fate, worker or '',
    job[6] or '' }
end

-- By what it said when it was born: its record may have expired, if nobody looked for so long.
local function strike_off(worker)
  local key = worker_key(worker)
  call('SREM', P .. ':workers', key)
  local queues = call('HGET', OURS .. 'listens', worker) or ''
  for q in string.gmatch(queues, '[^,]+') do call('SREM', P .. ':workers:' .. q, key) end
end

local function bury_worker(worker)
  for _, composite in ipairs(call('SMEMBERS', held_key(worker))) do
    if #fates >= MOST then more = 1; return end
    local id, ex = split_composite(composite)
    local q = id and call('TYPE', job_key(id)).ok == 'hash' and call('HGET', job_key(id), 'origin')
    local ok, problem = pcall(abandon, worker, q or '', id or composite, ex or '')
    if not ok then
      call('SREM', held_key(worker), composite)
      if q then pcall(bury, q, id, problem, abandoned_exc) end
    end
  end
  strike_off(worker)
  call('DEL', worker_key(worker), held_key(worker))
  call('ZREM', beats, worker)
  call('HDEL', OURS .. 'listens', worker)
end

local silent = call('ZRANGEBYSCORE', beats, '-inf', NOW_MS - silence, 'LIMIT', 0, MOST_WORKERS)
for _, worker in ipairs(silent) do bury_worker(worker) end
if #silent == MOST_WORKERS then more = 1 end

local function tidy_workers()
  for _, key in ipairs(call('SRANDMEMBER', P .. ':workers', MOST)) do
    if not has(key) then
      strike_off(string.sub(key, #worker_key('') + 1))
      for _, q in ipairs(queue_names()) do call('SREM', P .. ':workers:' .. q, key) end
    end
  end
end

-- Executions past their horizon: a stock worker's, or one of ours that has no worker at all.
local function tidy_wip(q)
  local key = P .. ':wip:' .. q
  local due = call('ZRANGEBYSCORE', key, 0, NOW, 'LIMIT', 0, MOST)
  for _, composite in ipairs(due) do
    local id, ex = split_composite(composite)
    local worker = id and call('HGET', execution_key(composite), 'worker_name') or nil
    local ok, problem = pcall(abandon, worker or nil, q, id or composite, ex or '')
    if not ok then
      call('ZREM', key, composite)
      if id and has(job_key(id)) then pcall(bury, q, id, problem, abandoned_exc) end
    end
  end
  return #due == MOST
end

-- Popped by a stock worker on one queue, which then died before it had begun.
local function tidy_intermediate(q)
  local key = queue_key(q) .. ':intermediate'
  if call('TYPE', key).ok ~= 'list' then return end
  for _, id in ipairs(call('LRANGE', key, 0, MOST - 1)) do
    local seen_key = key .. ':first_seen:' .. id
    if not call('SET', seen_key, NOW, 'NX', 'EX', ENDLESS) then
      if NOW_S - (tonumber(call('GET', seen_key)) or 0) > SEEN_SECONDS then
        call('LREM', key, 1, id)
        call('DEL', seen_key)
        local status = call('TYPE', job_key(id)).ok == 'hash' and call('HGET', job_key(id), 'status')
        if (status == 'queued' or status == 'created') and not live_execution(id) then
          push(q, id, true)
          fates[#fates + 1] = { id, '', q, 0, 'requeued', '', '' }
        end
      end
    end
  end
end

-- Dependents that a stock worker had found ready, and then died.
local function tidy_ready(q)
  local key = P .. ':ready:' .. q
  for _, id in ipairs(call('ZRANGEBYSCORE', key, '-inf', NOW_S - READY_SECONDS, 'LIMIT', 0, MOST)) do
    call('ZREM', key, id)
    if call('TYPE', job_key(id)).ok == 'hash' and call('HGET', job_key(id), 'status') == 'ready_to_enqueue' then
      call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', NOW_ISO)
      push(q, id)
    end
  end
end

local ENDED = { finished = true, failed = true, canceled = true, stopped = true }

-- A job that waits. What RQ's `requeue` put there, or a stock producer under an id that has been
-- used before, still has the TTL of the record that ended (RQ 3.0.0). One that a stock producer
-- gave a `ttl` of its own is to be forgotten then.
local function look_at(id)
  local key = job_key(id)
  if call('TTL', key) >= 0 then
    local job = call('HMGET', key, 'status', 'ttl')
    if job[1] and not ENDED[job[1]] and not job[2] then spare(id) end
  end
  if is_sorted(id) or #strangers >= MOST_STRANGERS or not is_id(id) then return end
  local job = call('HMGET', key, 'status', 'x_type', 'x_stock')
  if not job[1] or job[2] or job[3] then return end
  entry_of(id)
  local size = call('HSTRLEN', key, 'data')
  if size > math.min(LARGE_BODY, data_left) then return end
  data_left = data_left - size
  strangers[#strangers + 1] = { id, call('HGET', key, 'data') or '' }
end

-- Through the whole queue, piece by piece, from where the last call came to; when that entry
-- has gone, so has all in front of it, and it begins anew. At 500,000 jobs, finding the place
-- takes 5 ms.
local function walk_queue(q)
  local key, walked = queue_key(q), OURS .. 'walked'
  if call('TYPE', key).ok ~= 'list' then return end
  local last = call('HGET', walked, q)
  local at = last and call('LPOS', key, last, 'RANK', -1)
  local ids = call('LRANGE', key, at and at + 1 or 0, (at or -1) + WALK)
  for _, id in ipairs(ids) do pcall(look_at, id) end
  if #ids == WALK then call('HSET', walked, q, ids[WALK])
  elseif last then call('HDEL', walked, q) end
end

local function look_at_some(key)
  if call('TYPE', key).ok ~= 'zset' then return end
  for _, id in ipairs(call('ZRANDMEMBER', key, MOST)) do pcall(look_at, id) end
end

local function tidy_scheduled(q) look_at_some(P .. ':scheduled:' .. q) end

-- A stock tool that cancels or deletes a parent leaves who waits for it waiting (RQ 3.0.0).
local function tidy_deferred(q)
  local key = P .. ':deferred:' .. q
  local many = call('ZCARD', key) > MOST
  for _, id in ipairs(many and call('ZRANDMEMBER', key, MOST) or call('ZRANGE', key, 0, -1)) do
    pcall(look_at, id)
    for _, parent in ipairs(call('SMEMBERS', P .. ':job::' .. id .. ':dependencies')) do
      -- One whose many dependents are still being settled may be gone already.
      local status = call('HGET', OURS .. 'settle', parent) or call('HGET', job_key(parent), 'status')
      if not status or ENDED[status] then settle_one(id, parent, status or 'finished') end
    end
  end
end

-- Its retention is over. A registry entry may be stale: what was requeued is left alone.
local function tidy_job(id)
  if call('TYPE', job_key(id)).ok ~= 'hash' then return unindex_job(id) end
  local status = call('HGET', job_key(id), 'status')
  if not status or ENDED[status] then remove(id) end
end

-- True when there is more: a busy service ends more jobs than one call an interval could tidy.
local function tidy_ended(q)
  local full = false
  for _, name in ipairs({ ':finished:', ':failed:' }) do
    local due = call('ZRANGEBYSCORE', P .. name .. q, 0, NOW, 'LIMIT', 0, MOST_ENDED)
    for _, id in ipairs(due) do
      call('ZREM', P .. name .. q, id)
      pcall(tidy_job, id)
    end
    full = full or #due == MOST_ENDED
  end
  -- RQ gives canceled jobs no TTL at all and their score is when they were canceled.
  local old = call('ZRANGEBYSCORE', P .. ':canceled:' .. q, 0, NOW_S - ENDLESS, 'LIMIT', 0, MOST)
  for _, id in ipairs(old) do
    local kept = call('ZSCORE', OURS .. 'retained', id)
    if not kept or tonumber(kept) <= NOW_S then
      call('ZREM', P .. ':canceled:' .. q, id)
      pcall(tidy_job, id)
    end
  end
  return full or #old == MOST
end

local function tidy_retained()
  for _, id in ipairs(call('ZRANGEBYSCORE', OURS .. 'retained', 0, NOW, 'LIMIT', 0, MOST_ENDED)) do
    call('ZREM', OURS .. 'retained', id)
    local record = call('HMGET', job_key(id), 'status', 'origin')
    if record[1] == 'canceled' then
      call('ZREM', P .. ':canceled:' .. (record[2] or ''), id)
      remove(id)
    end
  end
end

-- Ids whose job is gone in a way that told nobody, a stock tool's: a slow walk over all.
local function sweep()
  local cursor = call('GET', OURS .. 'sweep_at') or ''
  local from = cursor == '' and '-' or ('(' .. cursor)
  local ids, found = call('ZRANGEBYLEX', INDEX .. 'all', from, '+', 'LIMIT', 0, SWEEP), {}
  for i, entry in ipairs(ids) do found[i] = job_key(id_of(entry)) end
  if #ids > 0 and call('EXISTS', unpack(found)) < #ids then
    for i, entry in ipairs(ids) do
      if not has(found[i]) then unindex_job(id_of(entry), entry) end
    end
  end
  call('SET', OURS .. 'sweep_at', #ids == SWEEP and ids[#ids] or '')
end

-- Slots of jobs that a stock tool deleted or that died in another's hands.
local function tidy_slots()
  local full = false
  for _, key in ipairs(call('SRANDMEMBER', P .. ':rl-keys', 20)) do
    for _, id in ipairs(call('ZRANGE', limit_key(key, 'allowed'), 0, MOST - 1)) do
      local status = call('TYPE', job_key(id)).ok == 'hash' and call('HGET', job_key(id), 'status')
      if status ~= 'queued' and status ~= 'started' and not live_execution(id) then
        call('ZREM', limit_key(key, 'allowed'), id)
      end
    end
    full = fill_slots(key) or full
    look_at_some(limit_key(key, 'rate_limited'))
  end
  return full
end

-- Counted bytes drift when stock tools empty a queue: where nothing is, nothing is counted.
-- A committed batch is counted before its jobs are in a queue.
local function tidy_bytes()
  if has(P .. ':rl-keys') or has(OURS .. 'activating') then return end
  local bytes = call('HGETALL', OURS .. 'bytes')
  for i = 1, #bytes, 2 do
    local left = 0
    for _, priority in ipairs({ '.high', '', '.low' }) do
      local q = bytes[i] .. priority
      left = left + call('LLEN', queue_key(q)) + call('ZCARD', P .. ':scheduled:' .. q)
        + call('ZCARD', P .. ':deferred:' .. q) + call('ZCARD', P .. ':wip:' .. q)
    end
    if left == 0 then call('HDEL', OURS .. 'bytes', bytes[i]) end
  end
end

local MINUTES_SECONDS = 3900
-- How many wait, by queue without priority, and since when the first of them: as RQ writes times.
-- Where nothing waits nothing is said.
local function note_waiting(key)
  local waiting, any = {}, false
  for _, q in ipairs(queue_names()) do
    local ok, depth = pcall(call, 'LLEN', queue_key(q))
    if ok and depth > 0 then
      local head = call('LINDEX', queue_key(q), 0)
      local found, since = pcall(call, 'HGET', job_key(head), 'enqueued_at')
      local base, known = base_queue(q), waiting[base_queue(q)] or { 0, '' }
      since = found and since or ''
      if known[2] ~= '' and (since == '' or known[2] < since) then since = known[2] end
      waiting[base], any = { known[1] + depth, since }, true
    end
  end
  local text = any and cjson.encode(waiting) or '{}'
  call('SET', key, '{"at":"' .. NOW_US .. '","queues":' .. text .. '}', 'EX', MINUTES_SECONDS)
end

-- Once a minute what was counted is written down, and what waits: the last hour can be told by
-- the minute.
local function note_minute()
  local key = COUNTS .. ':' .. math.floor(NOW_S / 60)
  if has(key) then return end
  local found, counts = call('HGETALL', COUNTS), {}
  for i = 1, #found, 2 do counts[found[i]] = found[i + 1] end
  call('SET', key, cjson.encode({ at = NOW_US, counts = counts }), 'EX', MINUTES_SECONDS)
  note_waiting(key .. ':waiting')
end

-- A few at a time, in turn: a quiet service with many queues is still a quiet one.
local function queues_in_turn()
  local names = queue_names()
  if #names <= MOST_QUEUES then return names end
  table.sort(names)
  local from, chosen = call('INCR', OURS .. 'upkeep_turn') * MOST_QUEUES, {}
  for i = 1, MOST_QUEUES do chosen[i] = names[(from + i) % #names + 1] end
  return chosen
end

-- What only stock tools, or a death, leave behind is mostly not there at all.
local function duties_of(q)
  local keys = { P .. ':wip:' .. q, queue_key(q) .. ':intermediate', P .. ':ready:' .. q,
    P .. ':deferred:' .. q, queue_key(q), P .. ':scheduled:' .. q }
  if call('EXISTS', unpack(keys)) == 0 then return { tidy_ended } end
  return { tidy_wip, tidy_intermediate, tidy_ready, walk_queue, tidy_scheduled,
    tidy_deferred, tidy_ended }
end

-- A last time in the future: the clock was put back.
local due_key = OURS .. 'upkeep_at'
local since = NOW_MS - (tonumber(call('GET', due_key) or '') or 0)
if since < 0 or since >= upkeep_ms then
  call('SET', due_key, NOW_MS)
  tidy_workers()
  for _, tidy in ipairs({ regroup, tidy_slots }) do
    local ok, full = pcall(tidy)
    if ok and full then
      more = 1
      call('DEL', due_key)
    end
  end
  for _, tidy in ipairs({ tidy_retained, sweep, tidy_bytes, trim_audit, note_minute }) do
    pcall(tidy)
  end
  for _, q in ipairs(queues_in_turn()) do
    for _, tidy in ipairs(duties_of(q)) do
      local ok, full = pcall(tidy, q)
      if ok and full then
        more = 1
        call('DEL', due_key)
      end
    end
  end
end

local activating = {}
if call('EXISTS', OURS .. 'settle', OURS .. 'activating') > 0 then
  local unsettled = call('HGETALL', OURS .. 'settle')
  for i = 1, #unsettled, 2 do
    if settled >= DEPENDENTS_A_CALL then break end
    settle_more(unsettled[i], unsettled[i + 1])
  end
  activating = call('SMEMBERS', OURS .. 'activating')
end
settle_just_ended()
if settled > 0 and has(OURS .. 'settle') then more = 1 end
wake()
return { 0, more, fates, activating, strangers }
