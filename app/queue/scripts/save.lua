-- save: what running jobs have done so far, if the executions are still the worker's.
-- ARGV: prefix, worker, count, then: job, execution, queue, result JSON
-- Answer: 1 for each that is kept; 0: the job is somebody else's, or was canceled.
local answers = {}
for i = 1, tonumber(ARGV[3]) do
  local at = 4 + (i - 1) * 4
  local id, composite, text = ARGV[at], ARGV[at] .. ':' .. ARGV[at + 1], ARGV[at + 3]
  answers[i] = 0
  -- RQ's cancel takes a running job out of `wip` and leaves the rest (RQ 3.0.0).
  if call('HGET', execution_key(composite), 'worker_name') == ARGV[2]
    and call('ZSCORE', P .. ':wip:' .. ARGV[at + 2], composite)
    and call('TYPE', job_key(id)).ok == 'hash' then
    call('HSET', job_key(id), 'x_result', text)
    answers[i] = 1
  end
end
return answers
