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
local trail = string.format('[1,%d,"queued"]', NOW_MS)
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

-- Whether an id is taken, a key was used before, or a queue is too deep.
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
  local depths = {}
  for _, form in ipairs(forms) do
    local q = form.queue
    if not depths[q] then
      depths[q] = call('LLEN', queue_key(q))
      if depths[q] == 0 then call('SADD', P .. ':queues', queue_key(q)) end
      depths[q] = depths[q] + call('ZCARD', P .. ':scheduled:' .. q)
        + call('ZCARD', P .. ':deferred:' .. q)
    end
    depths[q] = depths[q] + #form.ids
    if depths[q] > most_jobs then return true end
  end
  return false
end

local function count_bytes(sign)
  local most = 0
  for _, form in ipairs(forms) do
    most = math.max(most, call('HINCRBY', OURS .. 'bytes', form.base, sign * form.bytes))
  end
  return most
end

local function file()
  for _, form in ipairs(forms) do
    call('ZADD', OURS .. 'i:all', unpack(form.entries))
    call('ZADD', form.by_type, unpack(form.entries))
    call('ZADD', form.by_key, unpack(form.entries))
    call('SADD', OURS .. 'indexes', form.by_type, form.by_key)
  end
end

local function withdraw()
  for _, form in ipairs(forms) do
    for _, name in ipairs({ OURS .. 'i:all', form.by_type, form.by_key }) do
      pcall(call, 'ZREM', name, unpack(form.ids))
    end
  end
  count_bytes(-1)
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
    use_key(ARGV[at + 4], ARGV[at + 5], id, ARGV[at + 2], 'queued')
  end
end

local function push_all()
  local names = {}
  for _, form in ipairs(forms) do
    call('RPUSH', queue_key(form.queue), unpack(form.ids))
    names[#names + 1] = form.queue
  end
  call('PUBLISH', OURS .. 'wake', table.concat(names, ','))
end

-- An error is a key of another type, which is not to be touched.
local function is_taken()
  read_forms()
  if is_unusual() then return false end
  if count_bytes(1) <= most_bytes and pcall(file) then return true end
  withdraw()
  return false
end

local ok, taken = pcall(is_taken)
if not ok or not taken then return nil end
write_records()
push_all()
return answer_once((#ARGV - FIRST + 1) / EACH)
