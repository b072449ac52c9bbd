-- recover: executions whose worker is silent go back to their queue, and all upkeep.
-- ARGV: prefix, silence ms, abandoned limit, failure ttl, exc_string of an abandoned job,
--   upkeep interval ms
-- Answer: {gap 0|1, more 0|1, {id, type, queue, attempt, fate, worker, request id} …,
--   batches that were committed and whose jobs are not all queued yet, {id, data} … of stock
--   producers' jobs that nobody has said the type of (`adopt`)}
local silence, upkeep_ms = tonumber(ARGV[2]), tonumber(ARGV[6])
local beats, last_key = OURS .. 'beats', OURS .. 'recovered_at'
local due_key, step_key = OURS .. 'upkeep_at', OURS .. 'upkeep_step'
local MOST_WORKERS, WALK_COMMANDS = 8, 500

-- If nobody could ask for half the silence (Redis was away, or its clock jumped), nobody
-- could beat either: their silence says nothing. Count it anew from here.
local last = tonumber(call('SET', last_key, NOW_MS, 'GET') or '')
if not last or last > NOW_MS or NOW_MS - last > silence / 2 then
  for _, worker in ipairs(call('ZRANGE', beats, 0, -1)) do call('ZADD', beats, NOW_MS, worker) end
  return { 1, 0, {}, {}, {} }
end

local silent = call('ZRANGEBYSCORE', beats, '-inf', NOW_MS - silence, 'LIMIT', 0, MOST_WORKERS)
for _, worker in ipairs(silent) do pcall(bury_worker, worker) end
if #silent == MOST_WORKERS then more = 1 end

-- What one `end` has left to settle.
local function settle_rest()
  local unsettled = call('HGETALL', OURS .. 'settle')
  for i = 1, #unsettled, 2 do
    if settled >= DEPENDENTS_A_CALL then break end
    settle_more(unsettled[i], unsettled[i + 1])
  end
end

local activating = {}
if call('EXISTS', OURS .. 'settle', OURS .. 'activating') > 0 then
  pcall(settle_rest)
  local batches = redis.pcall('SMEMBERS', OURS .. 'activating')
  activating = batches.err and {} or batches
end
settle_just_ended()
if settled > 0 and has(OURS .. 'settle') then more = 1 end

-- From where the last call stopped, if it had enough: each duty gets its turn.
local function keep_house(step)
  if not step then call('SET', due_key, NOW_MS) end
  local list = all_duties()
  for i = tonumber(step or '') or 1, #list do
    if is_enough() then
      more = 1
      return call('SET', step_key, i)
    end
    local ok, full = pcall(list[i][1], list[i][2])
    if ok and full then
      more = 1
      call('DEL', due_key)
    end
  end
  if not step then return end
  call('DEL', step_key)
  -- One before this has left some of its work.
  if not has(due_key) then more = 1 end
end

-- A time that lies far in the future: the clock was put back.
local function is_due(at, interval)
  local wait = (tonumber(at or '') or 0) - NOW_MS
  return wait <= 0 or wait > interval
end

local at, step, walk_note, count_note =
  unpack(call('MGET', due_key, step_key, WALK_AT, RECOUNT_AT))
local is_upkeep_due = step or is_due((tonumber(at or '') or -upkeep_ms) + upkeep_ms, upkeep_ms)
if is_upkeep_due then keep_house(step) end
if (count_note or next(met)) and is_due(string.match(count_note or '', '^%d+'), upkeep_ms) then
  pcall(recount, count_note, upkeep_ms)
end
if is_upkeep_due or is_due(string.match(walk_note or '', '^%d+'), upkeep_ms) then
  spent = math.min(spent, MOST_COMMANDS - WALK_COMMANDS)
  walk(walk_note, upkeep_ms)
end
settle_just_ended()
wake()
return { 0, more, fates, activating, strangers }
