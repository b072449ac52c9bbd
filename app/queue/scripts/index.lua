-- Sorted sets by id, which sorts by time of creation, so that lists need not look at every job.
-- Stock tools know nothing of them: who reads checks each record, and says what was stale.
local INDEX = OURS .. 'i:'
-- States that jobs are rarely in; the others are found fast among all.
local INDEXED = { scheduled = true, deferred = true, failed = true, canceled = true, stopped = true }
-- An ended job's keys outlive its registry entry by this, so that upkeep can read what to tidy.
local TIDY_SECONDS = 900

local function index_status(id, status)
  if INDEXED[status] then call('ZADD', INDEX .. 'status:' .. status, 0, id) end
end

local function unindex_status(id, status)
  if INDEXED[status] then call('ZREM', INDEX .. 'status:' .. status, id) end
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

local function unlist_error(id)
  for kind, value in pairs(noted(OURS .. 'errors', id)) do
    call('ZREM', INDEX .. kind .. ':' .. value, id)
  end
  call('HDEL', OURS .. 'errors', id)
end

-- The error that a job shows, and its place among those that are like it.
local function set_error(id, error_json)
  unlist_error(id)
  local lists = error_lists(error_json)
  if next(lists) ~= nil then call('HSET', OURS .. 'errors', id, cjson.encode(lists)) end
  for kind, value in pairs(lists) do call('ZADD', INDEX .. kind .. ':' .. value, 0, id) end
  call('HSET', job_key(id), 'x_error', error_json)
end

-- As fingerprints.py makes it, of a failure that no run has told: `pattern` has its variable
-- parts taken out already.
local function fingerprint_of(type_name, class, pattern)
  return string.sub(redis.sha1hex(table.concat({ type_name or '', class, pattern, '' }, '\n')), 1, 16)
end

-- The job leaves every index. Its record may be gone: it expired while nobody tidied, or a
-- stock tool deleted it.
local function unindex_job(id)
  call('ZREM', INDEX .. 'all', id)
  for status in pairs(INDEXED) do call('ZREM', INDEX .. 'status:' .. status, id) end
  local job = { false, false, false, false }
  if call('TYPE', job_key(id)).ok == 'hash' then
    job = call('HMGET', job_key(id), 'x_type', 'x_by', 'x_tags', 'x_error')
  end
  local has_record = job[1]
  if has_record then
    call('ZREM', INDEX .. 'type:' .. job[1], id)
    if job[2] then call('ZREM', INDEX .. 'by:' .. job[2], id) end
  else
    for _, name in ipairs(call('SMEMBERS', OURS .. 'indexes')) do call('ZREM', name, id) end
  end
  if job[3] or not has_record then
    for key, value in pairs(noted(OURS .. 'tags', id)) do
      call('ZREM', INDEX .. 'tag:' .. key .. ':' .. tostring(value), id)
    end
    call('HDEL', OURS .. 'tags', id)
  end
  if job[4] or not has_record then unlist_error(id) end
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
  call('ZREM', OURS .. 'retained', id)
  call('DEL', key, key .. ':dependents', P .. ':job::' .. id .. ':dependencies', P .. ':results:' .. id)
end
