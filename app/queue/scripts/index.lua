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

local function tags_of(text)
  local ok, tags = pcall(cjson.decode, text or '')
  return ok and type(tags) == 'table' and tags or {}
end

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
  for key, value in pairs(tags) do call('ZADD', INDEX .. 'tag:' .. key .. ':' .. value, 0, id) end
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

local function unlist_error(id, text)
  if not text or text == '' then return end
  for kind, value in pairs(error_lists(text)) do call('ZREM', INDEX .. kind .. ':' .. value, id) end
end

-- The error that a job shows, and its place among those that are like it.
local function set_error(id, error_json)
  unlist_error(id, call('HGET', job_key(id), 'x_error'))
  for kind, value in pairs(error_lists(error_json)) do
    call('ZADD', INDEX .. kind .. ':' .. value, 0, id)
  end
  call('HSET', job_key(id), 'x_error', error_json)
end

-- As fingerprints.py makes it, of a failure that no run has told: `pattern` has its variable
-- parts taken out already.
local function fingerprint_of(type_name, class, pattern)
  return string.sub(redis.sha1hex(table.concat({ type_name or '', class, pattern, '' }, '\n')), 1, 16)
end

-- The job leaves every index. Of a job whose record is gone, what it was in is not known.
local function unindex_job(id)
  call('ZREM', INDEX .. 'all', id)
  for status in pairs(INDEXED) do call('ZREM', INDEX .. 'status:' .. status, id) end
  local job = { false, false, false, false }
  if call('TYPE', job_key(id)).ok == 'hash' then
    job = call('HMGET', job_key(id), 'x_type', 'x_by', 'x_tags', 'x_error')
  end
  if not job[1] then
    for _, name in ipairs(call('SMEMBERS', OURS .. 'indexes')) do call('ZREM', name, id) end
    return
  end
  call('ZREM', INDEX .. 'type:' .. job[1], id)
  if job[2] then call('ZREM', INDEX .. 'by:' .. job[2], id) end
  for key, value in pairs(tags_of(job[3])) do
    call('ZREM', INDEX .. 'tag:' .. key .. ':' .. tostring(value), id)
  end
  unlist_error(id, job[4])
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
