-- commit: a large batch whose records are staged is accepted as one whole, or not at all.
-- From here on every job of it will run; `activate` queues them, a few at a time.
-- ARGV: prefix, most jobs a queue, most bytes a queue, batch, places ('' all), by, only by,
--   idempotency id, fingerprint, request id, id …
-- Answer: as a group's of `submit`; {1} accepted, {8} records are missing: stage them again.
local most_jobs, most_bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
local batch, places, by, only_by, idempotency, fingerprint, request = unpack(ARGV, 4, 10)
local key = OURS .. 'batch:' .. batch
local ids = { unpack(ARGV, 11) }

local function refuse()
  -- The reply was lost, and the call came again: its own key must not be told as another's.
  if has(key) then return { 1 } end
  local before = used_before(idempotency, fingerprint)
  if before then return before end
  local wanted = {}
  for index, id in ipairs(ids) do
    local found = call('HMGET', job_key(id), 'x_todo', 'status')
    if not found[1] or found[2] then return { 8 } end
    local job = cjson.decode(found[1])
    if is_late(job, idempotency) then return { 9, index - 1 } end
    local wrong = not wanted[job.queue] and check_types(job)
    if wrong then return { -1, wrong } end
    local parent = unknown_parent(job, only_by)
    if parent then return { 4, index - 1, parent - 1 } end
    local more = wanted[job.queue] or { 0, 0 }
    wanted[job.queue] = { more[1] + 1, more[2] + job.size }
  end
  local over = over_budget(wanted, most_jobs, most_bytes)
  if not over then count_bytes(wanted) end
  return over
end

local refusal = refuse()
if refusal then return { NOW_US, refusal } end
for _, id in ipairs(ids) do
  call('PERSIST', job_key(id))
  call('HSET', job_key(id), 'x_batch', batch) -- from here on it is a job, if not queued yet
end
record_batch(batch, by, request, places, ids)
for from = 1, #ids, 500 do
  call('RPUSH', key .. ':todo', unpack(ids, from, math.min(from + 499, #ids)))
end
call('SADD', OURS .. 'activating', batch)
use_key(idempotency, fingerprint, batch, request, '', true)
return { NOW_US, { 1 } }
