-- What stock tools, and the dead, leave behind that nobody else will look for. Duties, each of
-- which stops when it is enough for one call, and answers true where there is more of it.
-- In a block of its own, as a script may have 200 names.
local all_duties
do
  local SEEN_SECONDS, READY_SECONDS, MINUTES_SECONDS = 60, 5, 3900
  local MOST_ENDED, SWEEP, MOST_SLOTS, MOST_QUEUES = 200, 200, 20, 3
  local tidy = {}

  -- What is broken about one must not keep the others; and it is to be somewhere.
  local function try(q, id, act)
    local ok, problem = pcall(act, id)
    if not ok then pcall(bury, q, id, problem, abandoned_exc) end
  end

  local function state_of(id)
    return call('TYPE', job_key(id)).ok == 'hash' and call('HGET', job_key(id), 'status')
  end

  local function look_at_some(key)
    if call('TYPE', key).ok ~= 'zset' then return end
    for _, id in ipairs(call('ZRANDMEMBER', key, MOST)) do pcall(look_at, id) end
  end

  -- Workers without a record.
  function tidy.workers()
    for _, key in ipairs(call('SRANDMEMBER', P .. ':workers', MOST)) do
      if is_enough() then return true end
      if not has(key) then
        strike_off(string.sub(key, #worker_key('') + 1))
        for _, q in ipairs(names_of_queues()) do redis.pcall('SREM', P .. ':workers:' .. q, key) end
        redis.pcall('SREM', P .. ':workers', key)
      end
    end
  end

  -- Slots of jobs that a stock tool deleted or that died in another's hands.
  local function tidy_slot(key)
    for _, id in ipairs(call('ZRANGE', limit_key(key, 'allowed'), 0, MOST - 1)) do
      local status = state_of(id)
      if status ~= 'queued' and status ~= 'started' and not live_execution(id) then
        call('ZREM', limit_key(key, 'allowed'), id)
      end
    end
    local full = fill_slots(key)
    look_at_some(limit_key(key, 'rate_limited'))
    return full
  end

  function tidy.slots()
    local full = false
    for _, key in ipairs(call('SRANDMEMBER', P .. ':rl-keys', MOST_SLOTS)) do
      if is_enough() then break end
      local ok, left = pcall(tidy_slot, key)
      full = full or ok and left
    end
    return full
  end

  local function end_retention(id)
    local record = call('HMGET', job_key(id), 'status', 'origin')
    if record[1] ~= 'canceled' then return end
    call('ZREM', P .. ':canceled:' .. (record[2] or ''), id)
    remove(id)
  end

  function tidy.retained()
    for _, id in ipairs(call('ZRANGEBYSCORE', OURS .. 'retained', 0, NOW, 'LIMIT', 0, MOST_ENDED)) do
      if is_enough() then return true end
      call('ZREM', OURS .. 'retained', id)
      pcall(end_retention, id)
    end
  end

  -- As `unindex_job`, of many whose records are gone.
  local function unlist_gone(entries)
    local lists, ids = call('SMEMBERS', OURS .. 'indexes'), {}
    lists[#lists + 1] = INDEX .. 'all'
    for status in pairs(INDEXED) do lists[#lists + 1] = INDEX .. 'status:' .. status end
    for _, list in ipairs(lists) do redis.pcall('ZREM', list, unpack(entries)) end
    for i, entry in ipairs(entries) do ids[i] = id_of(entry) end
    local tags = call('HMGET', OURS .. 'tags', unpack(ids))
    local errors = call('HMGET', OURS .. 'errors', unpack(ids))
    for i, id in ipairs(ids) do
      if tags[i] or errors[i] then pcall(unindex_job, id, entries[i]) end
    end
  end

  -- Ids whose job is gone in a way that told nobody, a stock tool's: a slow walk over all.
  function tidy.lists()
    local stood_at = call('GET', OURS .. 'sweep_at')
    local cursor = stood_at or ''
    local from = cursor == '' and '-' or ('(' .. cursor)
    local ids, found = call('ZRANGEBYLEX', INDEX .. 'all', from, '+', 'LIMIT', 0, SWEEP), {}
    for i, entry in ipairs(ids) do found[i] = job_key(id_of(entry)) end
    if #ids > 0 and call('EXISTS', unpack(found)) < #ids then
      local gone = {}
      for i, entry in ipairs(ids) do
        if not has(found[i]) then gone[#gone + 1] = entry end
      end
      if #gone > 0 then unlist_gone(gone) end
    end
    local come_to = #ids == SWEEP and ids[#ids] or ''
    if come_to ~= stood_at then call('SET', OURS .. 'sweep_at', come_to) end
  end

  -- Counted bytes drift when stock tools empty a queue: where nothing is, nothing is counted.
  -- A committed batch is counted before its jobs are in a queue.
  function tidy.bytes()
    if call('EXISTS', P .. ':rl-keys', OURS .. 'activating') > 0 then return end
    local bytes = call('HGETALL', OURS .. 'bytes')
    for i = 1, #bytes, 2 do
      local left = 0
      for _, priority in ipairs({ '.high', '', '.low' }) do
        local q = bytes[i] .. priority
        left = left + call('LLEN', queue_key(q)) + call('ZCARD', P .. ':scheduled:' .. q)
          + call('ZCARD', P .. ':deferred:' .. q) + call('ZCARD', P .. ':wip:' .. q)
      end
      if left == 0 then call('HDEL', OURS .. 'bytes', bytes[i]) end
    end
  end

  -- How many wait, by queue without priority, and since when the first of them: as RQ writes times.
  -- Where nothing waits nothing is said.
  local function note_waiting(key)
    local waiting, any = {}, false
    for _, q in ipairs(names_of_queues()) do
      local ok, depth = pcall(call, 'LLEN', queue_key(q))
      if ok and depth > 0 then
        local head = call('LINDEX', queue_key(q), 0)
        local found, since = pcall(call, 'HGET', job_key(head), 'enqueued_at')
        local base, known = base_queue(q), waiting[base_queue(q)] or { 0, '' }
        since = found and since or ''
        if known[2] ~= '' and (since == '' or known[2] < since) then since = known[2] end
        waiting[base], any = { known[1] + depth, since }, true
      end
    end
    local text = any and cjson.encode(waiting) or '{}'
    call('SET', key, '{"at":"' .. NOW_US .. '","queues":' .. text .. '}', 'EX', MINUTES_SECONDS)
  end

  -- Once a minute what was counted is written down, and what waits: the last hour can be told by
  -- the minute. What grows slowly is looked at then, too.
  function tidy.minutes()
    local key = COUNTS .. ':' .. math.floor(NOW_S / 60)
    if has(key) then return end
    pcall(trim_audit)
    local found, counts = call('HGETALL', COUNTS), {}
    for i = 1, #found, 2 do counts[found[i]] = found[i + 1] end
    call('SET', key, cjson.encode({ at = NOW_US, counts = counts }), 'EX', MINUTES_SECONDS)
    note_waiting(key .. ':waiting')
  end

  -- Executions past their horizon: a stock worker's, or one of ours that has no worker at all.
  function tidy.wip(q)
    local due = call('ZRANGEBYSCORE', P .. ':wip:' .. q, 0, NOW, 'LIMIT', 0, MOST)
    for _, composite in ipairs(due) do
      if is_enough() then return true end
      local id, ex = split_composite(composite)
      local worker = id and redis.pcall('HGET', execution_key(composite), 'worker_name')
      take_over(type(worker) == 'string' and worker, q, id, ex, composite)
    end
    return #due == MOST
  end

  -- Popped by a stock worker on one queue, which then died before it had begun.
  function tidy.intermediate(q)
    local key = queue_key(q) .. ':intermediate'
    if call('TYPE', key).ok ~= 'list' then return end
    local function give_back_entry(id)
      local seen_key = key .. ':first_seen:' .. id
      if call('SET', seen_key, NOW, 'NX', 'EX', ENDLESS) then return end
      if NOW_S - (tonumber(call('GET', seen_key)) or 0) <= SEEN_SECONDS then return end
      call('LREM', key, 1, id)
      call('DEL', seen_key)
      local status = state_of(id)
      if (status == 'queued' or status == 'created') and not live_execution(id) then
        push(q, id, true)
        fates[#fates + 1] = { id, '', q, 0, 'requeued', '', '' }
      end
    end
    for _, id in ipairs(call('LRANGE', key, 0, MOST - 1)) do
      if is_enough() then return true end
      try(q, id, give_back_entry)
    end
  end

  -- Dependents that a stock worker had found ready, and then died.
  function tidy.ready(q)
    local key = P .. ':ready:' .. q
    for _, id in ipairs(call('ZRANGEBYSCORE', key, '-inf', NOW_S - READY_SECONDS, 'LIMIT', 0, MOST)) do
      if is_enough() then return true end
      call('ZREM', key, id)
      try(q, id, function()
        if state_of(id) ~= 'ready_to_enqueue' then return end
        call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', NOW_ISO)
        push(q, id)
      end)
    end
  end

  function tidy.scheduled(q) look_at_some(P .. ':scheduled:' .. q) end

  -- A stock tool that cancels or deletes a parent leaves who waits for it waiting (RQ 3.0.0).
  local function look_at_parents(id)
    for _, parent in ipairs(call('SMEMBERS', P .. ':job::' .. id .. ':dependencies')) do
      -- One whose many dependents are still being settled may be gone already.
      local status = call('HGET', OURS .. 'settle', parent) or call('HGET', job_key(parent), 'status')
      if not status or ENDED[status] then settle_one(id, parent, status or 'finished') end
    end
  end

  function tidy.deferred(q)
    local key = P .. ':deferred:' .. q
    local many = call('ZCARD', key) > MOST
    for _, id in ipairs(many and call('ZRANDMEMBER', key, MOST) or call('ZRANGE', key, 0, -1)) do
      if is_enough() then break end
      pcall(look_at, id)
      pcall(look_at_parents, id)
    end
  end

  -- Its retention is over. A registry entry may be stale: what was requeued is left alone.
  local function tidy_job(id)
    if call('TYPE', job_key(id)).ok ~= 'hash' then return unindex_job(id) end
    local status = call('HGET', job_key(id), 'status')
    if not status or ENDED[status] then remove(id) end
  end

  -- A busy service ends more jobs than one call an interval could tidy.
  function tidy.ended(q)
    local full = false
    for _, name in ipairs({ ':finished:', ':failed:' }) do
      local due = call('ZRANGEBYSCORE', P .. name .. q, 0, NOW, 'LIMIT', 0, MOST_ENDED)
      for _, id in ipairs(due) do
        if is_enough() then return true end
        call('ZREM', P .. name .. q, id)
        pcall(tidy_job, id)
      end
      full = full or #due == MOST_ENDED
    end
    -- RQ gives canceled jobs no TTL at all and their score is when they were canceled.
    local old = call('ZRANGEBYSCORE', P .. ':canceled:' .. q, 0, NOW_S - ENDLESS, 'LIMIT', 0, MOST)
    for _, id in ipairs(old) do
      if is_enough() then return true end
      local kept = call('ZSCORE', OURS .. 'retained', id)
      if not kept or tonumber(kept) <= NOW_S then
        call('ZREM', P .. ':canceled:' .. q, id)
        pcall(tidy_job, id)
      end
    end
    return full or #old == MOST
  end

  -- A few at a time, in turn: a quiet service with many queues is still a quiet one. What counts the
  -- turns may be something else: then it begins anew.
  local function queues_in_turn()
    local names = names_of_queues()
    if #names <= MOST_QUEUES then return names end
    local turn, chosen = redis.pcall('INCR', OURS .. 'upkeep_turn'), {}
    if type(turn) ~= 'number' then
      turn = 0
      call('SET', OURS .. 'upkeep_turn', turn)
    end
    for i = 1, MOST_QUEUES do chosen[i] = names[(turn * MOST_QUEUES + i) % #names + 1] end
    return chosen
  end

  -- What only stock tools, or a death, leave behind is mostly not there at all.
  local function duties_of(queues)
    local keys = {}
    for _, q in ipairs(queues) do
      for _, key in ipairs({ P .. ':wip:' .. q, queue_key(q) .. ':intermediate', P .. ':ready:' .. q,
        P .. ':deferred:' .. q, P .. ':scheduled:' .. q }) do keys[#keys + 1] = key end
    end
    if #keys == 0 or call('EXISTS', unpack(keys)) == 0 then return { tidy.ended } end
    return { tidy.wip, tidy.intermediate, tidy.ready, tidy.scheduled, tidy.deferred, tidy.ended }
  end

  function all_duties()
    local list = {}
    for _, duty in ipairs({ tidy.workers, regroup, tidy.slots, tidy.retained, tidy.lists, tidy.bytes,
      tidy.minutes }) do
      list[#list + 1] = { duty }
    end
    local ok, queues = pcall(queues_in_turn)
    queues = ok and queues or {}
    local each = duties_of(queues)
    for _, q in ipairs(queues) do
      for _, duty in ipairs(each) do list[#list + 1] = { duty, q } end
    end
    return list
  end
end
