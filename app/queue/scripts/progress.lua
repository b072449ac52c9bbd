-- progress: how far running jobs are, if the executions are still the worker's.
-- ARGV: prefix, worker, count, then: job, execution, progress JSON
for i = 1, tonumber(ARGV[3]) do
  local at = 4 + (i - 1) * 3
  local id, composite, text = ARGV[at], ARGV[at] .. ':' .. ARGV[at + 1], ARGV[at + 2]
  -- A stock tool may have deleted a running job and left its execution (RQ 3.0.0): a word on it
  -- would bring back a record that is no job and never expires.
  if call('HGET', execution_key(composite), 'worker_name') == ARGV[2]
    and call('HEXISTS', job_key(id), 'status') == 1 then
    note_progress(id, text)
  end
end
return 1
