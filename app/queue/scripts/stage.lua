-- stage: a large body ahead of its job. It expires unless `submit` takes it up.
-- ARGV: prefix, id, body, ttl seconds
local key = job_key(ARGV[2])
if call('HEXISTS', key, 'status') == 1 then return 0 end
call('HSET', key, 'data', ARGV[3])
call('EXPIRE', key, ARGV[4])
return 1
