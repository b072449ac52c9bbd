-- submit: new jobs become queued, scheduled or deferred. A group is one client's request: all
-- of its jobs are accepted, or none.
-- ARGV: prefix, submitter, seq, most jobs a queue, most bytes a queue, count of groups, then a
--   group: jobs, by, only by ('' sees all), idempotency id ('' without), fingerprint, request id,
--     batch ('' without), places of its jobs in the request ('' all), then a job: id, queue, place,
--     at, expires ms, type, size, slot key, slot limit, allow failure, n parents, parent …,
--     n tags, key, value …, n fields, field, value …
-- Answer: {now in microseconds, {answer a group}}: {1, status …} accepted, {0} an id is taken,
--   {-1, key} a key has another type, {2, first id, its microseconds, its request id,
--     its first status, 1 when its answer is kept},
--   {3} another request had the idempotency key, {4, job, parent} unknown parent, {5, queue, room}
--   too deep, {6, queue, room} too many bytes, {7} the first request is still being accepted,
--   {9, job} its `expires` is in the past.
local most_jobs, most_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])
local before = answered_before()
if before then return before end

local at = 7
local function take()
  at = at + 1
  return ARGV[at - 1]
end
local function take_many()
  local from = at + 1
  at = from + tonumber(ARGV[at])
  return { unpack(ARGV, from, at - 1) }
end

local function read_job(group)
  local job = { by = group.by, batch = group.batch, id = take(), queue = take(), place = take(),
    at = take(), expires = take(), type = take(), size = tonumber(take()), slot = take(),
    limit = take(), allow = take(), parents = take_many(), tags = {} }
  local tags = take_many()
  for i = 1, #tags, 2 do job.tags[tags[i]] = tags[i + 1] end
  job.fields = take_many()
  return job
end

local function read_group()
  local group = { size = tonumber(take()), by = take(), only_by = take(), key = take(),
    fingerprint = take(), request = take(), batch = take(), places = take(), jobs = {} }
  for i = 1, group.size do group.jobs[i] = read_job(group) end
  return group
end

-- A group's jobs are mostly of one queue: its keys are looked at once a call.
local checked = {}
local function wrong_type(job)
  if checked[job.queue] == nil then checked[job.queue] = check_types(job) or false end
  return checked[job.queue]
end

local function refuse(group, wanted)
  local before = used_before(group.key, group.fingerprint)
  if before then return before end
  for index, job in ipairs(group.jobs) do
    local kind = kind_of(job_key(job.id))
    if kind ~= 'none' and (kind ~= 'hash' or call('HEXISTS', job_key(job.id), 'status') == 1) then
      return { 0 }
    end
    if is_late(job, group.key) then return { 9, index - 1 } end
    local wrong = wrong_type(job)
    if wrong then return { -1, wrong } end
    local parent = unknown_parent(job, group.only_by)
    if parent then return { 4, index - 1, parent - 1 } end
    local more = wanted[job.queue] or { 0, 0 }
    wanted[job.queue] = { more[1] + 1, more[2] + job.size }
  end
  return over_budget(wanted, most_jobs, most_bytes)
end

local function undo(group)
  for _, job in ipairs(group.jobs) do
    pcall(call, 'LREM', queue_key(job.queue), 0, job.id)
    pcall(remove, job.id)
  end
end

local function accept_group(group)
  local wanted = {}
  local refusal = refuse(group, wanted)
  if refusal then return refusal end
  local answer, ids = { 1 }, {}
  for i, job in ipairs(group.jobs) do
    local ok, status = pcall(accept, job)
    if not ok then
      undo(group)
      return { -1, cause_of(status) }
    end
    answer[i + 1], ids[i] = status, job.id
  end
  count_bytes(wanted)
  for _, job in ipairs(group.jobs) do tally('submitted', job.queue, job.type) end
  if group.batch ~= '' then
    record_batch(group.batch, group.by, group.request, group.places, ids)
  end
  use_key(group.key, group.fingerprint, group.batch ~= '' and group.batch or ids[1], group.request,
    answer[2])
  return answer
end

local answers = {}
for i = 1, tonumber(ARGV[6]) do answers[i] = accept_group(read_group()) end
wake()
return answer_once(answers)
