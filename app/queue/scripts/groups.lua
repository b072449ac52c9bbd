-- Failed jobs by cause. A cause has the ids of its failed jobs, in the order in which they failed:
-- how many they are is how many there are, and no counter that could drift.
-- Set while an operator's act takes jobs out of their groups: who is the last one clears the
-- cause. The end of a retention does not.
local clears = false

-- In a block of its own, as a script may have 200 names.
local failure_key, enter_group, leave_group
do
  local FAILURES, CLEARED = OURS .. 'failures', OURS .. 'cleared'
  -- How long, and how many, causes are remembered that have no failed job left.
  local MOST_CLEARED, CLEARED_SECONDS = 1000, 90 * 86400
  local MINUTES, HOURS = 60, 168

  function failure_key(fp, part) return OURS .. 'failure:' .. fp .. (part or '') end

  local function forget_failure(fp)
    call('DEL', failure_key(fp), failure_key(fp, ':jobs'), failure_key(fp, ':trend'))
  end

  -- Counts by minute and by hour; the oldest go when a minute begins.
  local function count_failure(fp)
    local key = failure_key(fp, ':trend')
    local minute, hour = math.floor(NOW_S / 60), math.floor(NOW_S / 3600)
    call('HINCRBY', key, 'h' .. hour, 1)
    if call('HINCRBY', key, 'm' .. minute, 1) > 1 then return end
    call('EXPIRE', key, (HOURS + 1) * 3600)
    for _, name in ipairs(call('HKEYS', key)) do
      local kind, at = string.match(name, '^(%a)(%d+)$')
      if not at or tonumber(at) <= (kind == 'm' and minute - MINUTES or hour - HOURS) then
        call('HDEL', key, name)
      end
    end
  end

  local function text_of(value, default) return type(value) == 'string' and value or default end

  -- A cause says by itself what all of its jobs have had in common since it was first seen, so
  -- that a selection need not look at each of them: `only_queue`, `only_code`. It holds for jobs up
  -- to the number `told`: who enters one and does not tell it is of an older release.
  local function tell_common(key, fp, known, queue, code)
    if not (known[3] or known[4]) then return end
    local last = call('ZRANGE', failure_key(fp, ':jobs'), -1, -1, 'WITHSCORES')[2]
    local is_untold = tonumber(last or 0) > (tonumber(known[5] or '') or 0)
    if is_untold or known[3] ~= queue then call('HDEL', key, 'only_queue') end
    if is_untold or known[4] ~= code then call('HDEL', key, 'only_code') end
  end

  -- A job has failed for good, with this error.
  function enter_group(id, q, error_json)
    local ok, error = pcall(cjson.decode, error_json or '')
    local fp = ok and type(error) == 'table' and error.fingerprint
    if type(fp) ~= 'string' or #fp ~= 16 or string.find(fp, '%X') then return end
    local key = failure_key(fp)
    local queue, code = base_queue(q), text_of(error.code, '')
    local known = call('HMGET', key, 'first', 'cleared', 'only_queue', 'only_code', 'told')
    tell_common(key, fp, known, queue, code)
    if not known[1] then
      local names = call('HMGET', job_key(id), 'x_type', 'x_stock')
      call('HSET', key, 'type', names[1] or names[2] or '', 'queue', queue, 'only_queue', queue,
        'only_code', code, 'class', text_of(error.class, ''), 'message',
        text_of(error.message, ''), 'first', NOW_US)
    elseif known[2] then
      call('HDEL', key, 'cleared')
      call('HSET', key, 'regressed', NOW_US)
      call('PERSIST', key)
      call('ZREM', CLEARED, fp)
    end
    -- A number of their own, as a clock may go back: what failed after a moment is behind it.
    local number = call('INCR', OURS .. 'failed_seq')
    call('HSET', key, 'last', NOW_US, 'told', number)
    call('ZADD', FAILURES, NOW_US, fp)
    call('ZADD', failure_key(fp, ':jobs'), number, id)
    count_failure(fp)
  end

  local function clear_failure(fp)
    call('HSET', failure_key(fp), 'cleared', NOW_US)
    call('EXPIRE', failure_key(fp), CLEARED_SECONDS)
    call('ZADD', CLEARED, NOW_US, fp)
    if call('ZCARD', CLEARED) > MOST_CLEARED then forget_failure(call('ZPOPMIN', CLEARED)[1]) end
  end

  -- False: it was not there.
  function leave_group(id, fp)
    local jobs = failure_key(fp, ':jobs')
    if call('ZREM', jobs, id) == 0 then return false end
    if not has(jobs) then
      call('ZREM', FAILURES, fp)
      if clears then clear_failure(fp) else forget_failure(fp) end
    end
    return true
  end
end
