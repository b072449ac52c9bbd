-- stage: records ahead of their jobs. They expire unless `submit` or `commit` takes them up; what
-- has been taken up is left as it is, though the call may arrive again after that.
-- ARGV: prefix, ttl seconds, count, then a record: id, n fields, field, value …
local at = 4

local function is_open(key)
  local kind = call('TYPE', key).ok
  if kind ~= 'hash' then return kind == 'none' end
  local taken = call('HMGET', key, 'status', 'x_batch')
  return not taken[1] and not taken[2]
end

for _ = 1, tonumber(ARGV[3]) do
  local key, n = job_key(ARGV[at]), tonumber(ARGV[at + 1])
  if is_open(key) then
    call('HSET', key, unpack(ARGV, at + 2, at + 1 + n))
    call('EXPIRE', key, ARGV[2])
  end
  at = at + 2 + n
end
return 1
