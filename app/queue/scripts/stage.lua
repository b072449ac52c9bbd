-- stage: records ahead of their jobs. They expire unless `submit` or `commit` takes them up.
-- ARGV: prefix, ttl seconds, count, then a record: id, n fields, field, value …
local at = 4
for _ = 1, tonumber(ARGV[3]) do
  local key, n = job_key(ARGV[at]), tonumber(ARGV[at + 1])
  local kind = call('TYPE', key).ok
  if kind == 'none' or (kind == 'hash' and call('HEXISTS', key, 'status') == 0) then
    call('HSET', key, unpack(ARGV, at + 2, at + 1 + n))
    call('EXPIRE', key, ARGV[2])
  end
  at = at + 2 + n
end
return 1
