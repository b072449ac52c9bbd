-- upload: a client's file has been stored. Its record, unless its key has as many as it may.
-- ARGV: prefix, id, owner, when it expires in seconds since 1970, seconds that the record is kept,
--   most uploads of a key, field, value …
-- Answer: 1, or 0 when the key has too many.
local id, expires, kept = ARGV[2], ARGV[4], tonumber(ARGV[5])
local owned, record = OURS .. 'uploads:by:' .. ARGV[3], OURS .. 'upload:' .. ARGV[2]
if not has(record) then
  call('ZREMRANGEBYSCORE', owned, '-inf', NOW_S)
  if call('ZCARD', owned) >= tonumber(ARGV[6]) then return 0 end
end
call('HSET', record, unpack(ARGV, 7))
call('EXPIRE', record, kept)
call('ZADD', OURS .. 'uploads', expires, id)
call('ZADD', owned, expires, id)
if call('TTL', owned) < kept then call('EXPIRE', owned, kept) end
return 1
