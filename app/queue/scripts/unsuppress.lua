-- unsuppress: an address that was refused for good is written to again.
-- ARGV: prefix, by, address. Answer: 0 when it was not there.
local by, address = ARGV[2], ARGV[3]
local zset, hash = OURS .. 'suppressed', OURS .. 'suppressions'
if call('ZSCORE', zset, address) then audit(by, 'unsuppress', '/v1/suppressions/' .. address) end
call('HDEL', hash, address)
return call('ZREM', zset, address)
