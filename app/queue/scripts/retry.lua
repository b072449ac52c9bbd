-- retry: a failed job is queued, scheduled or deferred again, as it is or with what replaces
-- its params and options.
-- ARGV: prefix, by, job, most jobs a queue, most bytes a queue, what is edited as JSON (or ''),
--   field, value … of what is edited
-- Answer: {'none'} | {'refused', status} | {'full', queue} | {'parent' or 'parent_failed', place}
--   | {'done', status}
local by, id, most_jobs, most_bytes = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local change = ARGV[6] ~= '' and cjson.decode(ARGV[6]) or nil
local fields = { unpack(ARGV, 7) }

local job, refusal = find_retryable(id)
if not job then return refusal end
local q = change and change.replaces_options and change.queue or job.queue
local full = over_budget({ [q] = { 1, change and change.size or size_of(id) } }, most_jobs, most_bytes)
if full then return { 'full', full[2] } end
if change then
  local wrong = check_types({ queue = q }) or nil
  if wrong then error('a key of queue ' .. q .. ' holds something else') end
  local parent = wrong_parent(change)
  if parent then return parent end
end

local detail = { by = by, retried = true }
if change then detail.edited = change.edited end
audit(by, 'retry', '/v1/jobs/' .. id, { status = job.status, type = job.type or nil,
  edited = detail.edited })
local status = retry_job(job, cjson.encode(detail), change, fields)
wake()
return { 'done', status }
