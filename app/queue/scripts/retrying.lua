-- A failed job runs again: what its failure left is put away, and its attempts so far stay.
-- What was stopped is in RQ's failed registry too, and may go on as well.

-- In a block of its own, as a script may have 200 names.
local find_retryable, size_of, wrong_parent, retry_job
do
  local RETRYABLE = { failed = true, stopped = true }
  -- What a record takes beside its body; as packing.py has it.
  local RECORD_BYTES = 900
  -- What options may have written, for those that take their place.
  local OPTION_FIELDS = { 'x_timeout', 'x_backoff', 'x_dry', 'x_tags', 'x_at', 'x_notify',
    'rate_limit_key', 'rate_limit_concurrency', 'dependency_id', 'dependency_ids',
    'allow_dependency_failures', 'enqueue_at_front' }

  -- Whether, and from where: nil and an answer, or the job as it stands.
  function find_retryable(id)
    if call('TYPE', job_key(id)).ok ~= 'hash' then return nil, { 'none' } end
    local found = call('HMGET', job_key(id), 'status', 'origin', 'x_type', 'x_by')
    if not found[1] then return nil, { 'none' } end
    if not RETRYABLE[found[1]] then return nil, { 'refused', found[1] } end
    if live_execution(id) then return nil, { 'refused', 'started' } end
    return { id = id, status = found[1], queue = found[2] or 'default', type = found[3],
      by = found[4] or '' }
  end

  function size_of(id) return call('HSTRLEN', job_key(id), 'data') + RECORD_BYTES end

  local function put_failure_away(job)
    local id, key = job.id, job_key(job.id)
    call('ZREM', P .. ':failed:' .. job.queue, id)
    unindex_status(id, job.status)
    clears = true
    unlist_error(id)
    clears = false
    for _, each in ipairs(keys_of(id)) do call('PERSIST', each) end
    -- Part of the work may have been done, though what was counted begins anew.
    if call('HEXISTS', key, 'x_abandoned') == 1 then call('HSET', key, 'x_interrupted', 1) end
    call('HDEL', key, 'x_error', 'x_failures', 'x_abandoned', 'x_next', 'x_reason', 'x_progress',
      'x_stop', 'x_expires', 'x_op', 'exc_info')
    call('HSET', key, 'started_at', '', 'ended_at', '')
  end

  local function replace_tags(job, tags)
    for name, value in pairs(noted(OURS .. 'tags', job.id)) do
      call('ZREM', INDEX .. 'tag:' .. name .. ':' .. tostring(value), job.id)
    end
    call('HDEL', OURS .. 'tags', job.id)
    if job.type then index_job(job.id, job.by, job.type, tags) end
  end

  -- The place of the first parent that is not there (-1: that has failed), or nil.
  function wrong_parent(change)
    local unknown = unknown_parent(change, '')
    if unknown then return { 'parent', unknown - 1 } end
    for index, parent in ipairs(change.parents) do
      if FAILED[call('HGET', job_key(parent), 'status')] and change.allow ~= '1' then
        return { 'parent_failed', index - 1 }
      end
    end
  end

  -- `change` is as packing.py has it, with `replaces_options`; `fields` are its record's.
  local function apply(job, change, fields)
    local key = job_key(job.id)
    if change.replaces_options then
      call('HDEL', key, unpack(OPTION_FIELDS))
      replace_tags(job, change.tags)
      job.queue = change.queue
    end
    if #fields > 0 then call('HSET', key, unpack(fields)) end
    if #change.parents > 0 then
      call('DEL', P .. ':job::' .. job.id .. ':dependencies')
      write_parents(change)
      job.waits = register_parents(change) == 'deferred'
    end
    job.due = change.replaces_options and due_of(change) or nil
  end

  local function send_off(job, detail)
    local id, q = job.id, job.queue
    local status = job.waits and 'deferred' or job.due and 'scheduled' or 'queued'
    note(id, status, detail)
    if status == 'queued' then
      enqueue_again(id, q, false)
      return status
    end
    call('SADD', P .. ':queues', queue_key(q))
    call('HSET', job_key(id), 'status', status)
    index_status(id, status)
    if job.waits then call('ZADD', P .. ':deferred:' .. q, NOW, id)
    else call('ZADD', P .. ':scheduled:' .. q, string.format('%.6f', job.due), id) end
    woken['@'] = true
    return status
  end

  -- `job` is from `find_retryable`, `detail` JSON for the trail; the status that it has then.
  function retry_job(job, detail, change, fields)
    put_failure_away(job)
    if change then apply(job, change, fields) end
    if job.type then
      local size = size_of(job.id)
      call('HSET', job_key(job.id), 'x_size', size)
      call('HINCRBY', OURS .. 'bytes', base_queue(job.queue), size)
    end
    return send_off(job, detail)
  end
end
