-- due: which schedules' time has come. Harmless: who looks changes none of them.
-- ARGV: prefix, most
-- Answer: {now ms, ms until the next or -1, {{name, field, value …} …}}
local all, BACK_MS = OURS .. 'schedules', 60000
if not has(all) then return { NOW_MS, -1, {} } end

-- The clock was ahead, and has been put back: what it had planned then may be far in the future.
local seen = tonumber(call('GET', OURS .. 'schedules_at') or '') or 0
local is_back = NOW_MS < seen - BACK_MS
if is_back then
  for _, name in ipairs(call('ZRANGE', all, 0, -1)) do call('ZADD', all, NOW_MS, name) end
end
if is_back or NOW_MS > seen + BACK_MS / 4 then call('SET', OURS .. 'schedules_at', NOW_MS) end

local found = {}
for _, name in ipairs(call('ZRANGEBYSCORE', all, '-inf', NOW_MS, 'LIMIT', 0, tonumber(ARGV[2]))) do
  local facts = call('HGETALL', OURS .. 'schedule:' .. name)
  if #facts == 0 then call('ZREM', all, name)
  else found[#found + 1] = { name, unpack(facts) } end
end
local head = call('ZRANGE', all, 0, 0, 'WITHSCORES')
local wait = -1
if head[2] then wait = math.max(0, tonumber(head[2]) - NOW_MS) end
return { NOW_MS, wait, found }
