-- progress: how far running jobs are, if the executions are still the worker's.
-- ARGV: prefix, worker, count, then: job, execution, progress JSON
for i = 1, tonumber(ARGV[3]) do
  local at = 4 + (i - 1) * 3
  local id, composite, text = ARGV[at], ARGV[at] .. ':' .. ARGV[at + 1], ARGV[at + 2]
  if call('HGET', execution_key(composite), 'worker_name') == ARGV[2] then
    call('HSET', job_key(id), 'x_progress', text)
    local trail = call('HGET', job_key(id), 'x_trail') or ''
    local last = string.match(trail, '.*\n%[(%d+),') or string.match(trail, '^%[(%d+),') or '0'
    call('PUBLISH', OURS .. 'job:' .. id,
      string.format('["%s.%d",%d,"progress",%s]', last, NOW_MS, NOW_MS, text))
  end
end
return 1
