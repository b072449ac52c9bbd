-- adopt: of what type stock producers' jobs are, which the server cannot read (RQ 3.0.0
-- compresses their data). They are listed by it, and shown with it.
-- ARGV: prefix, then: id, type …
for i = 2, #ARGV, 2 do
  local id, name = ARGV[i], ARGV[i + 1]
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
return 1
