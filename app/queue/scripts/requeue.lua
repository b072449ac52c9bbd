-- requeue: the dashboard's act on failed jobs: as `retry`, whichever of them can be.
-- ARGV: prefix, by, what it was asked of (a path), exc_string of a broken record, id …
-- Answer: how many wait again.
local by, moved = ARGV[2], 0
local found = {}
for i = 5, #ARGV do
  local ok, job = pcall(find_retryable, ARGV[i])
  if ok and job then found[#found + 1] = job end
end
if #found == 0 then return 0 end
audit(by, 'retry', ARGV[3], { count = #found })
local detail = cjson.encode({ by = by, retried = true })
for _, job in ipairs(found) do
  local ok, problem = pcall(retry_job, job, detail)
  clears = false
  if ok then moved = moved + 1 else pcall(bury, job.queue, job.id, problem, ARGV[4]) end
end
wake()
return moved
