-- rate: one request of a key, in a window that slides by the weight of the one before it.
-- ARGV: prefix, key name, limit, window seconds
-- Answer: {allowed 0|1, remaining, seconds until the window ends}.
local limit, window = tonumber(ARGV[3]), tonumber(ARGV[4])
local current = math.floor(NOW_S / window)
local key = OURS .. 'rate:' .. ARGV[2] .. ':'
local now_count = tonumber(call('GET', key .. current) or '') or 0
local before = tonumber(call('GET', key .. (current - 1)) or '') or 0
local passed = NOW_S / window - current
local used = now_count + before * (1 - passed)
local reset = math.max(1, math.ceil((current + 1) * window - NOW_S))
if used + 1 > limit then return { 0, 0, reset } end
call('INCR', key .. current)
call('EXPIRE', key .. current, window * 2)
return { 1, math.max(0, math.floor(limit - used - 1)), reset }
