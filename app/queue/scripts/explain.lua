-- explain: causes for failed jobs that had none (`unexplained`); from here on they are listed and
-- grouped by it. Harmless to repeat.
-- ARGV: prefix, then: id, type, error JSON …
local function explain(id, name, error_json)
  if call('TYPE', job_key(id)).ok ~= 'hash' then return end
  local job = call('HMGET', job_key(id), 'status', 'origin', 'x_type', 'x_stock')
  local fp = error_lists(error_json).fingerprint
  if job[1] ~= 'failed' or not fp or call('ZSCORE', failure_key(fp, ':jobs'), id) then return end
  if not (job[3] or job[4]) then
    call('HSET', job_key(id), 'x_stock', name)
    call('SADD', OURS .. 'indexes', INDEX .. 'type:' .. name)
    for _, list in ipairs({ 'all', 'type:' .. name }) do
      call('ZADD', INDEX .. list, 0, entry_of(id))
    end
  end
  set_error(id, error_json)
  index_status(id, 'failed')
  enter_group(id, job[2] or '', error_json)
end

for i = 2, #ARGV, 3 do pcall(explain, ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
return 1
