-- suppress: an address that was refused for good is remembered for a time; the one that would
-- be forgotten first gives way when there are too many.
-- ARGV: prefix, address, seconds, most, what is known of it (JSON)
local zset, hash = OURS .. 'suppressed', OURS .. 'suppressions'
call('ZADD', zset, NOW_MS + tonumber(ARGV[3]) * 1000, ARGV[2])
call('HSET', hash, ARGV[2], ARGV[5])
local gone = call('ZRANGEBYSCORE', zset, '-inf', NOW_MS, 'LIMIT', 0, 100)
local over = call('ZCARD', zset) - #gone - tonumber(ARGV[4])
if over > 0 then
  for _, address in ipairs(call('ZRANGE', zset, #gone, #gone + math.min(over, 100) - 1)) do
    gone[#gone + 1] = address
  end
end
if #gone > 0 then
  call('ZREM', zset, unpack(gone))
  call('HDEL', hash, unpack(gone))
end
return #gone
