-- activate: jobs of a committed batch become queued, scheduled or deferred.
-- ARGV: prefix, batch, most jobs, exc_string of a broken record
-- Answer: how many are left.
local key = OURS .. 'batch:' .. ARGV[2] .. ':todo'
for _ = 1, tonumber(ARGV[3]) do
  local id = call('LPOP', key)
  if not id then break end
  local text = call('HGET', job_key(id), 'x_todo')
  if text and call('HEXISTS', job_key(id), 'status') == 0 then
    local job = cjson.decode(text)
    job.fields = {}
    call('HDEL', job_key(id), 'x_todo')
    local ok, problem = pcall(accept, job)
    tally('submitted', job.queue, job.type)
    if not ok then pcall(bury, job.queue, id, problem, ARGV[4]) end
  end
end
local left = call('LLEN', key)
if left == 0 then call('SREM', OURS .. 'activating', ARGV[2]) end
wake()
return left
