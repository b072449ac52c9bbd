-- adopt: of what type stock producers' jobs are, which the server cannot read (RQ 3.0.0
-- compresses their data). They are listed by it, and shown with it.
-- ARGV: prefix, then: id, type …
local function adopt(id, name)
  local job = call('TYPE', job_key(id)).ok == 'hash'
    and call('HMGET', job_key(id), 'status', 'x_type', 'x_stock') or { false }
  if job[1] and not job[2] and not job[3] then
    call('HSET', job_key(id), 'x_stock', name)
    call('SADD', OURS .. 'indexes', INDEX .. 'type:' .. name)
    for _, list in ipairs({ 'all', 'type:' .. name }) do
      call('ZADD', INDEX .. list, 0, entry_of(id))
    end
    index_status(id, job[1])
  end
end

-- A list that is something else keeps no job from running, and none from the other lists.
for i = 2, #ARGV, 2 do pcall(adopt, ARGV[i], ARGV[i + 1]) end
return 1
