-- Failed jobs by cause. A cause has the ids of its failed jobs, in the order in which they failed:
-- how many they are is how many there are, and no counter that could drift.
-- Set while an operator's act takes jobs out of their groups: who is the last one clears the
-- cause. The end of a retention does not.
local clears = false

local function failure_key(fp, part) return OURS .. 'failure:' .. fp .. (part or '') end

-- How many jobs of a cause have each tag (`key:value`), so that a selection need not look at each of
-- them. Of names that are no tags there are: `jobs`, how many are counted; `upto`, the number up to
-- which they are; `full`, there are more tags, which are not counted. Releases that know nothing of
-- it enter jobs behind that number, or take some out and `jobs` is too high: upkeep counts anew.
-- They end causes without it, too: it goes by itself unless it is written, or upkeep comes by.
-- In a block of its own, as a script may have 200 names.
local tally_in, tally_out, tallied, drop_tally, keep_tally
do
  -- Where each job has a tag of its own, those of the first jobs are counted only.
  local MOST_NAMES = 1000
  -- Longer than anybody keeps failed jobs with no worker, whose upkeep comes by.
  local KEPT_SECONDS = 400 * 86400

  function keep_tally(fp) call('EXPIRE', failure_key(fp, ':tags'), KEPT_SECONDS) end

  function drop_tally(fp) call('DEL', failure_key(fp, ':tags')) end

  -- What some jobs count in; how many there are so far (false: none), and how many of these.
  local function facts_of(fp, ids)
    local names, theirs = { 'jobs', 'upto', 'full' }, {}
    for _, note in ipairs(call('HMGET', OURS .. 'tags', unpack(ids))) do
      for key, value in pairs(cjson.decode(note or '{}')) do
        local name = key .. ':' .. tostring(value)
        if not theirs[name] then names[#names + 1] = name end
        theirs[name] = (theirs[name] or 0) + 1
      end
    end
    return names, call('HMGET', failure_key(fp, ':tags'), unpack(names)), theirs
  end

  -- From then on none is added, as earlier jobs may have had it.
  local function fill(missing, room, theirs)
    table.sort(missing, function(one, other) return theirs[one] > theirs[other] end)
    for i = #missing, math.max(0, room) + 1, -1 do missing[i] = nil end
    missing[#missing + 1], theirs.full = 'full', 1
  end

  local function count_in(fp, ids, number, last)
    local key, names, counts, theirs = failure_key(fp, ':tags'), facts_of(fp, ids)
    local jobs, upto, missing = tonumber(counts[1] or 0), tonumber(counts[2] or 0), {}
    if last == 0 and jobs > 0 then
      drop_tally(fp)
      return tally_in(fp, ids, number, last)
    end
    -- Those before them come first.
    if last > upto and number > upto then return false end
    local fields = { 'jobs', jobs + #ids, 'upto', math.max(upto, number) }
    for i = 4, #names do
      if counts[i] then
        fields[#fields + 1] = names[i]
        fields[#fields + 1] = counts[i] + theirs[names[i]]
      elseif not counts[3] then
        missing[#missing + 1] = names[i]
      end
    end
    local room = #missing > 0 and MOST_NAMES - call('HLEN', key) or 0
    if #missing > room then fill(missing, room, theirs) end
    for _, name in ipairs(missing) do
      fields[#fields + 1] = name
      fields[#fields + 1] = theirs[name]
    end
    call('HSET', key, unpack(fields))
    keep_tally(fp)
    return true
  end

  local function count_out(fp, id, number)
    local key, names, counts = failure_key(fp, ':tags'), facts_of(fp, { id })
    if not counts[1] or number > tonumber(counts[2]) then return end
    local fields, gone = { 'jobs', counts[1] - 1 }, {}
    for i = 4, #names do
      local count = (counts[i] or 0) - 1
      if count > 0 then
        fields[#fields + 1] = names[i]
        fields[#fields + 1] = count
      elseif count == 0 then
        gone[#gone + 1] = names[i]
      elseif not counts[3] then
        return drop_tally(fp)
      end
    end
    call('HSET', key, unpack(fields))
    if #gone > 0 then call('HDEL', key, unpack(gone)) end
  end

  -- Nothing that is wrong with a count, or a note of tags, keeps a job from ending.
  local function try(fp, count, ...)
    local ok, counted = pcall(count, fp, ...)
    if not ok then redis.pcall('DEL', failure_key(fp, ':tags')) end
    return ok and counted
  end

  -- The next jobs; the number of the last of them, and of the last one before them, 0 where there
  -- is none. True: they count.
  function tally_in(fp, ids, number, last) return try(fp, count_in, ids, number, last) end

  function tally_out(fp, id, number) try(fp, count_out, id, number) end

  -- How many of its jobs have a tag, and how many it has; nil where that is not known.
  function tallied(fp, tag)
    local jobs, name = failure_key(fp, ':jobs'), tag[1] .. ':' .. tag[2]
    local ok, facts = pcall(call, 'HMGET', failure_key(fp, ':tags'), 'jobs', 'upto', 'full', name)
    local size = ok and tonumber(facts[1])
    if not size or size ~= call('ZCARD', jobs) then return nil end
    if call('ZCOUNT', jobs, '(' .. facts[2], '+inf') > 0 then return nil end
    return tonumber(facts[4] or not facts[3] and 0 or nil), size
  end
end

-- In a block of its own, too.
local enter_group, leave_group
do
  local FAILURES, CLEARED = OURS .. 'failures', OURS .. 'cleared'
  -- How long, and how many, causes are remembered that have no failed job left.
  local MOST_CLEARED, CLEARED_SECONDS = 1000, 90 * 86400
  local MINUTES, HOURS = 60, 168

  local function forget_failure(fp)
    call('DEL', failure_key(fp), failure_key(fp, ':jobs'), failure_key(fp, ':trend'),
      failure_key(fp, ':tags'))
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
  local function tell_common(key, last, known, queue, code)
    if not (known[3] or known[4]) then return end
    local is_untold = last > (tonumber(known[5] or '') or 0)
    if is_untold or known[3] ~= queue then call('HDEL', key, 'only_queue') end
    if is_untold or known[4] ~= code then call('HDEL', key, 'only_code') end
  end

  -- A job has failed for good, with this error.
  function enter_group(id, q, error_json)
    local ok, error = pcall(cjson.decode, error_json or '')
    local fp = ok and type(error) == 'table' and error.fingerprint
    if type(fp) ~= 'string' or #fp ~= 16 or string.find(fp, '%X') then return end
    local key, jobs = failure_key(fp), failure_key(fp, ':jobs')
    local queue, code = base_queue(q), text_of(error.code, '')
    local known = call('HMGET', key, 'first', 'cleared', 'only_queue', 'only_code', 'told')
    local last = tonumber(call('ZRANGE', jobs, -1, -1, 'WITHSCORES')[2] or 0)
    tell_common(key, last, known, queue, code)
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
    -- It is there already where a transition broke off half-way.
    if call('ZADD', jobs, number, id) == 1 then tally_in(fp, { id }, number, last)
    else drop_tally(fp) end
    count_failure(fp)
  end

  local function clear_failure(fp)
    drop_tally(fp)
    call('HSET', failure_key(fp), 'cleared', NOW_US)
    call('EXPIRE', failure_key(fp), CLEARED_SECONDS)
    call('ZADD', CLEARED, NOW_US, fp)
    if call('ZCARD', CLEARED) > MOST_CLEARED then forget_failure(call('ZPOPMIN', CLEARED)[1]) end
  end

  -- False: it was not there.
  function leave_group(id, fp)
    local jobs = failure_key(fp, ':jobs')
    local number = call('ZSCORE', jobs, id)
    if not number then return false end
    call('ZREM', jobs, id)
    tally_out(fp, id, tonumber(number))
    if not has(jobs) then
      call('ZREM', FAILURES, fp)
      if clears then clear_failure(fp) else forget_failure(fp) end
    end
    return true
  end
end
