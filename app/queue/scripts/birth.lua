-- birth: the worker's record, its sets and its liveness, together.
-- ARGV: prefix, worker, ttl seconds, queues (comma-separated), field, value, …
local worker, ttl, queues = ARGV[2], ARGV[3], ARGV[4]
local key = worker_key(worker)
call('DEL', key)
call('HSET', key, 'birth', NOW_ISO, 'last_heartbeat', NOW_ISO, 'queues', queues,
  'state', 'idle', unpack(ARGV, 5))
call('EXPIRE', key, ttl)
-- Only stock tools read these: one that is something else keeps no worker from its work.
redis.pcall('SADD', P .. ':workers', key)
for q in string.gmatch(queues, '[^,]+') do redis.pcall('SADD', P .. ':workers:' .. q, key) end
call('ZADD', OURS .. 'beats', NOW_MS, worker)
redis.pcall('HSET', OURS .. 'listens', worker, queues)
return NOW_MS
