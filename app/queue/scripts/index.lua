-- Sorted sets by id, which sorts by time of creation, so that lists need not look at every job.
-- Stock tools know nothing of them: who reads checks each record, and says what was stale.
local INDEX = OURS .. 'i:'
-- States that jobs are rarely in; the others are found fast among all.
local INDEXED = { scheduled = true, deferred = true, failed = true, canceled = true, stopped = true }
-- An ended job's keys outlive its registry entry by this, so that upkeep can read what to tidy.
local TIDY_SECONDS = 900

-- An id of ours: the microseconds of its making come first.
local function is_sorted(id) return #id == 35 and not string.find(id, '%X') end

-- Days from civil date, the inverse of `iso`; nil when it is no time as RQ writes it.
local function microseconds_of(text)
  local year, month, day, hour, minute, second, micros = string.match(text or '',
    '^(%d%d%d%d)%-(%d%d)%-(%d%d)T(%d%d):(%d%d):(%d%d)%.(%d%d%d%d%d%d)Z$')
  if not year then return nil end
  month, day = tonumber(month), tonumber(day)
  year = month <= 2 and year - 1 or tonumber(year)
  local era = math.floor(year / 400)
  local yoe = year - era * 400
  local days = era * 146097 + yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100)
    + math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1 - 719468
  return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1e6 + micros
end

-- A stock producer's ids (RQ 3.0.0: uuid4) do not sort by time: its jobs stand in the lists as
-- `<microseconds in hex>:<id>`, which is noted in the record once.
local LATEST = 2 ^ 52 - 1
local function list_stock(id)
  local made = microseconds_of(call('HGET', job_key(id), 'created_at')) or tonumber(NOW_US)
  local entry = string.format('%013x:%s', math.max(0, math.min(made, LATEST)), id)
  if is_id(id) then
    call('HSET', job_key(id), 'x_entry', entry)
    call('ZADD', INDEX .. 'all', 0, entry)
  end
  return entry
end

-- What stands in the lists for a job whose record is there.
local function entry_of(id)
  return is_sorted(id) and id or call('HGET', job_key(id), 'x_entry') or list_stock(id)
end

local function id_of(entry) return string.match(entry, '^%x+:(.*)$') or entry end

local function index_status(id, status)
  if INDEXED[status] then call('ZADD', INDEX .. 'status:' .. status, 0, entry_of(id)) end
end

local function unindex_status(id, status)
  if INDEXED[status] then call('ZREM', INDEX .. 'status:' .. status, entry_of(id)) end
end

-- Of types and keys there are few: those lists are searched for a job whose record is gone. Of
-- tags and errors there may be as many as jobs, so each job's are noted where no TTL takes them.
local known = {}
local function index_job(id, by, type_name, tags)
  local names = { INDEX .. 'type:' .. type_name }
  if by and by ~= '' then names[2] = INDEX .. 'by:' .. by end
  for _, name in ipairs(names) do
    if not known[name] then
      known[name] = true
      call('SADD', OURS .. 'indexes', name)
    end
  end
  call('ZADD', INDEX .. 'all', 0, id)
  for _, name in ipairs(names) do call('ZADD', name, 0, id) end
  if next(tags) == nil then return end
  for key, value in pairs(tags) do call('ZADD', INDEX .. 'tag:' .. key .. ':' .. value, 0, id) end
  call('HSET', OURS .. 'tags', id, cjson.encode(tags))
end

local function noted(key, id)
  local ok, found = pcall(cjson.decode, call('HGET', key, id) or '')
  return ok and type(found) == 'table' and found or {}
end

-- Where an error is listed: by its code, and by its fingerprint.
local function error_lists(text)
  local lists = {}
  local ok, found = pcall(cjson.decode, text or '')
  if not ok or type(found) ~= 'table' then return lists end
  if type(found.code) == 'string' and #found.code <= 400 then lists.error = found.code end
  if type(found.fingerprint) == 'string' and string.match(found.fingerprint, '^%x+$')
    and #found.fingerprint == 16 then
    lists.fingerprint = found.fingerprint
  end
  return lists
end

local function unlist_error(id, entry)
  local lists = noted(OURS .. 'errors', id)
  entry = lists.entry or entry
  lists.entry = nil
  for kind, value in pairs(lists) do
    entry = entry or entry_of(id)
    call('ZREM', INDEX .. kind .. ':' .. value, entry)
    if kind == 'fingerprint' then leave_group(id, value) end
  end
  call('HDEL', OURS .. 'errors', id)
end

-- A stock tool has taken a failed job up again, and told nobody. True: it was in a group.
local function requeued(id)
  local fp = noted(OURS .. 'errors', id).fingerprint
  if type(fp) ~= 'string' then return false end
  clears = true
  local left = leave_group(id, fp)
  clears = false
  return left
end

-- A job that an operation has retried with care failed of what the operation is about: it stops.
local function tell_operation(id, fp)
  local operation = call('HGET', job_key(id), 'x_op')
  local key = operation and (OURS .. 'operation:' .. operation)
  local state = key and call('HGET', key, 'state')
  if (state == 'running' or state == 'paused') and call('ZSCORE', key .. ':causes', fp) then
    call('HSETNX', key, 'returned', fp)
  end
end

-- The error that a job shows, and its place among those that are like it.
local function set_error(id, error_json)
  unlist_error(id)
  local lists = error_lists(error_json)
  if next(lists) ~= nil then
    local entry = entry_of(id)
    for kind, value in pairs(lists) do call('ZADD', INDEX .. kind .. ':' .. value, 0, entry) end
    local note = { error = lists.error, fingerprint = lists.fingerprint }
    -- The record that knows it may go before the lists do.
    if entry ~= id then note.entry = entry end
    call('HSET', OURS .. 'errors', id, cjson.encode(note))
  end
  call('HSET', job_key(id), 'x_error', error_json)
  if lists.fingerprint then tell_operation(id, lists.fingerprint) end
end

-- As fingerprints.py makes it, of a failure that no run has told: `pattern` has its variable
-- parts taken out already.
local function fingerprint_of(type_name, class, pattern)
  return string.sub(redis.sha1hex(table.concat({ type_name or '', class, pattern, '' }, '\n')), 1, 16)
end

-- The job leaves every index. Its record may be gone: it expired while nobody tidied, or a
-- stock tool deleted it; what stands for it in the lists is known then from them alone.
local function unindex_job(id, entry)
  local job = { false, false, false, false, false }
  if call('TYPE', job_key(id)).ok == 'hash' then
    job = call('HMGET', job_key(id), 'x_type', 'x_by', 'x_tags', 'x_error', 'x_entry')
  end
  local is_ours = job[1]
  entry = job[5] or entry or id
  call('ZREM', INDEX .. 'all', entry)
  for status in pairs(INDEXED) do call('ZREM', INDEX .. 'status:' .. status, entry) end
  if is_ours then
    call('ZREM', INDEX .. 'type:' .. job[1], entry)
    if job[2] then call('ZREM', INDEX .. 'by:' .. job[2], entry) end
  else
    for _, name in ipairs(call('SMEMBERS', OURS .. 'indexes')) do call('ZREM', name, entry) end
  end
  -- Before its tags: its cause counts them.
  if job[4] or not is_ours then unlist_error(id, entry) end
  if job[3] or not is_ours then
    for key, value in pairs(noted(OURS .. 'tags', id)) do
      call('ZREM', INDEX .. 'tag:' .. key .. ':' .. tostring(value), entry)
    end
    call('HDEL', OURS .. 'tags', id)
  end
end

-- Nothing of the job remains, but its name in its batch, with how it ended.
local function remove(id)
  local key = job_key(id)
  local job = { false, false }
  if call('TYPE', key).ok == 'hash' then job = call('HMGET', key, 'x_batch', 'status') end
  if job[1] and job[2] and has(OURS .. 'batch:' .. job[1]) then
    call('HSET', OURS .. 'batch:' .. job[1], 'gone:' .. id, job[2])
  end
  unindex_job(id)
  redis.pcall('ZREM', OURS .. 'retained', id)
  call('DEL', key, key .. ':dependents', P .. ':job::' .. id .. ':dependencies', P .. ':results:' .. id)
end
