-- submit_plain: new jobs that wait for nothing become queued; the quick way for nearly all. It
-- writes what `submit` writes. Where anything is unusual it writes nothing, and `submit` decides.
-- ARGV: prefix, submitter, seq, most jobs a queue, most bytes a queue, count of forms, then a form
--   (JSON: queue, base queue, type, by, bytes beside the body, fields: what its jobs have in
--   common), then a job: number of its form, id, request id, data, idempotency id ('' without),
--   fingerprint
-- Answer: as of `submit`; a number for answers: so many jobs, all queued; nil: it is unusual.
local before = answered_before()
if before then return before end

local most_jobs, most_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])
local FIRST, EACH = 7 + ARGV[6], 6
local SINCE_1970 = 0
local trail = '[1,' .. NOW_US .. ',"queued"]'
local forms = {}

local function read_forms()
  for i = 1, tonumber(ARGV[6]) do
    local form = cjson.decode(ARGV[6 + i])
    form.n = #form.fields
    form.by_type, form.by_key = OURS .. 'i:type:' .. form.type, OURS .. 'i:by:' .. form.by
    form.ids, form.entries, form.bytes = {}, {}, 0
    forms[i] = form
  end
end

local function is_unusual()
  for at = FIRST, #ARGV, EACH do
    local form = forms[tonumber(ARGV[at])]
    local id = ARGV[at + 1]
    if has(job_key(id)) then return true end
    if ARGV[at + 4] ~= '' and has(idempotency_key(ARGV[at + 4])) then return true end
    form.ids[#form.ids + 1] = id
    form.entries[#form.entries + 1], form.entries[#form.entries + 2] = SINCE_1970, id
    form.bytes = form.bytes + #ARGV[at + 3] + form.overhead
  end
  local jobs, bytes = {}, {}
  for _, form in ipairs(forms) do
    jobs[form.queue] = (jobs[form.queue] or 0) + #form.ids
    bytes[form.base] = (bytes[form.base] or 0) + form.bytes
  end
  for q, more in pairs(jobs) do
    local depth = call('LLEN', queue_key(q)) + call('ZCARD', P .. ':scheduled:' .. q)
      + call('ZCARD', P .. ':deferred:' .. q)
    if depth + more > most_jobs then return true end
  end
  for base, more in pairs(bytes) do
    if (call('HGET', OURS .. 'bytes', base) or 0) + more > most_bytes then return true end
  end
  return false
end

-- What may hold something else than it should is touched first, where nothing is written yet
-- that counts.
local function prepare()
  call('ZCARD', OURS .. 'i:all')
  for _, form in ipairs(forms) do
    call('ZCARD', form.by_type)
    call('ZCARD', form.by_key)
    call('SADD', OURS .. 'indexes', form.by_type, form.by_key)
    call('SADD', P .. ':queues', queue_key(form.queue))
  end
  for _, form in ipairs(forms) do call('HINCRBY', OURS .. 'bytes', form.base, form.bytes) end
end

local function write_records()
  for at = FIRST, #ARGV, EACH do
    local form = forms[tonumber(ARGV[at])]
    local fields, n, id, data = form.fields, form.n, ARGV[at + 1], ARGV[at + 3]
    fields[n + 1], fields[n + 2], fields[n + 3], fields[n + 4] = 'data', data, 'x_req', ARGV[at + 2]
    fields[n + 5], fields[n + 6], fields[n + 7], fields[n + 8] = 'x_size', #data + form.overhead,
      'created_at', NOW_ISO
    fields[n + 9], fields[n + 10], fields[n + 11], fields[n + 12] = 'enqueued_at', NOW_ISO,
      'status', 'queued'
    fields[n + 13], fields[n + 14] = 'x_trail', trail
    call('HSET', job_key(id), unpack(fields))
    call('PUBLISH', OURS .. 'job:' .. id, trail)
    use_key(ARGV[at + 4], ARGV[at + 5], id, ARGV[at + 2], 'queued')
  end
end

local function file_and_push()
  local names = {}
  for _, form in ipairs(forms) do
    call('ZADD', OURS .. 'i:all', unpack(form.entries))
    call('ZADD', form.by_type, unpack(form.entries))
    call('ZADD', form.by_key, unpack(form.entries))
    call('RPUSH', queue_key(form.queue), unpack(form.ids))
    redis.pcall('HINCRBY', OURS .. 'counts', 'submitted|' .. form.base .. '|' .. form.type, #form.ids)
    names[#names + 1] = form.queue
  end
  call('PUBLISH', OURS .. 'wake', table.concat(names, ','))
end

local ok, unusual = pcall(function()
  read_forms()
  return is_unusual()
end)
if not ok or unusual then return nil end
if not pcall(prepare) then return nil end
write_records()
file_and_push()
return answer_once((#ARGV - FIRST + 1) / EACH)
