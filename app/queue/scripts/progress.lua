-- progress: how far running jobs are, if the executions are still the worker's.
-- ARGV: prefix, worker, count, then: job, execution, progress JSON
for i = 1, tonumber(ARGV[3]) do
  local at = 4 + (i - 1) * 3
  local id, composite, text = ARGV[at], ARGV[at] .. ':' .. ARGV[at + 1], ARGV[at + 2]
  if call('HGET', execution_key(composite), 'worker_name') == ARGV[2] then
    note_progress(id, text)
  end
end
return 1
