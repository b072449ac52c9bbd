-- A new job becomes queued, scheduled or deferred: a record, an entry, its place in lists.
-- `job` has id, queue, place (q now, s at, r after `at` seconds), at, expires (ms or ''),
-- type, by, size, slot key and limit ('' without), allow ('1' also after failed parents),
-- parents, tags (a table), fields (flat), batch.
local function kind_of(key) return call('TYPE', key).ok end

-- Nothing is written before every job of a call has passed.
local function check_types(job)
  local q = job.queue
  local wanted = { [queue_key(q)] = 'list', [P .. ':scheduled:' .. q] = 'zset',
    [P .. ':deferred:' .. q] = 'zset', [P .. ':queues'] = 'set' }
  for key, kind in pairs(wanted) do
    local found = kind_of(key)
    if found ~= 'none' and found ~= kind then return key end
  end
end

-- The place of the first parent that is not there, or that the key may not see.
local function unknown_parent(job, only_by)
  for index, parent in ipairs(job.parents) do
    if kind_of(job_key(parent)) ~= 'hash' then return index end
    local found = call('HMGET', job_key(parent), 'status', 'x_by')
    if not found[1] or (only_by ~= '' and found[2] ~= only_by) then return index end
  end
end

-- 'canceled': a parent has failed already. 'deferred': some have not ended.
local function register_parents(job)
  local waiting, fate = {}, nil
  for _, parent in ipairs(job.parents) do
    local status = call('HGET', job_key(parent), 'status')
    if status and status ~= 'finished' then
      if not FAILED[status] then waiting[#waiting + 1] = parent
      elseif job.allow ~= '1' then fate = 'canceled' end
    end
  end
  if fate then return fate end
  for _, parent in ipairs(waiting) do
    call('SADD', job_key(parent) .. ':dependents', job.id)
    call('SADD', P .. ':job::' .. job.id .. ':dependencies', parent)
  end
  return #waiting > 0 and 'deferred' or nil
end

-- Upkeep is woken: it may be over before the next look.
local function note_expiry(job)
  if job.expires == '' then return end
  call('ZADD', OURS .. 'expires', job.expires, job.id)
  woken['@'] = true
end

local function due_of(job)
  if job.place == 'q' then return nil end
  local due = job.place == 'r' and NOW_S + tonumber(job.at) or tonumber(job.at)
  call('HSET', job_key(job.id), 'x_at', string.format('%.0f', due * 1e6))
  return due > NOW_S and due or nil
end

local function write_parents(job)
  call('HSET', job_key(job.id), 'dependency_id', job.parents[1], 'dependency_ids',
    cjson.encode(job.parents), 'allow_dependency_failures', job.allow == '1' and 1 or 0,
    'enqueue_at_front', 0)
end

local function accept(job)
  local id, q, key = job.id, job.queue, job_key(job.id)
  local fields = job.fields
  local has_body = fields[1] == 'data'
  local function add(...)
    for i = 1, select('#', ...) do fields[#fields + 1] = (select(i, ...)) end
  end
  add('created_at', NOW_ISO, 'x_size', job.size)
  if job.batch ~= '' then add('x_batch', job.batch) end
  if not has_body then
    -- A large body was written ahead, and was about to expire.
    if call('HEXISTS', key, 'data') == 0 then error({ cause = 'its body is gone' }) end
    call('PERSIST', key)
  end
  if job.place == 'q' and #job.parents == 0 and job.slot == '' then
    -- The usual way, in as few steps as can be.
    index_job(id, job.by, job.type, job.tags)
    note_expiry(job)
    add('x_trail', append_trail(id, nil, 'queued'), 'status', 'queued', 'enqueued_at', NOW_ISO)
    call('HSET', key, unpack(fields))
    push(q, id)
    return 'queued'
  end
  call('HSET', key, unpack(fields))
  index_job(id, job.by, job.type, job.tags)
  note_expiry(job)
  local due, fate = due_of(job), nil
  if #job.parents > 0 then
    write_parents(job)
    fate = register_parents(job)
  end
  -- Upkeep goes by this set, also of what never came into its queue.
  call('SADD', P .. ':queues', queue_key(q))
  if fate == 'canceled' then
    call('HSET', key, 'status', 'deferred')
    cancel_waiting(id, { status = 'deferred', origin = q, ttl = call('HGET', key, 'result_ttl') },
      'parent_failed')
    settle_just_ended()
    return 'canceled'
  end
  local status = fate or (due and 'scheduled') or 'queued'
  call('HSET', key, 'x_trail', append_trail(id, nil, status))
  if status == 'queued' then
    enqueue(id, q, false, job.slot, job.limit)
    return status
  end
  call('HSET', key, 'status', status)
  index_status(id, status)
  if status == 'deferred' then call('ZADD', P .. ':deferred:' .. q, NOW, id)
  else call('ZADD', P .. ':scheduled:' .. q, string.format('%.6f', due), id) end
  woken['@'] = true
  return status
end
