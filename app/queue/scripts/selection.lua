-- Which failed jobs are meant. A selection is a filter and a number: what fails later is behind
-- it, and so is what was retried meanwhile and failed again. Nothing of it is copied.
-- `filter` may have: queue, error (a code), tag (key, value), batch, created_after,
-- created_before (as in `created_at`); fingerprints and types are chosen before.

-- Ids of a cause behind a number, up to another.
local function members(fp, after, before, count)
  return call('ZRANGEBYSCORE', failure_key(fp, ':jobs'), '(' .. after, before, 'LIMIT', 0, count)
end

-- Their places in a sorted set, false where they have none; of 1,000 ids at most.
local function scores(key, ids)
  if #ids == 0 then return {} end
  local ok, found = pcall(call, 'ZMSCORE', key, unpack(ids))
  return ok and found or {}
end

-- A queue by each of its priorities; what names one of them is no queue of its own.
local function names_of(queue)
  return queue == base_queue(queue) and { queue, queue .. '.high', queue .. '.low' } or {}
end

-- In a block of its own, as a script may have 200 names.
local fits, fitting, is_made_between, made_bounds, made_between
do
  local function decoded(text)
    local ok, found = pcall(cjson.decode, text or '')
    return ok and type(found) == 'table' and found or {}
  end

  -- In a JSON text that one of ours wrote no other place can look like that.
  local function has_code(text, code)
    if string.find(code, '^[%w_.-]+$') then
      return string.find(text or '', '"code":"' .. code .. '"', 1, true) ~= nil
    end
    return decoded(text).code == code
  end

  local function is_between(created, filter)
    if filter.created_after and created < filter.created_after then return false end
    return not (filter.created_before and created >= filter.created_before)
  end

  local function field_of(id, name)
    local ok, value = pcall(call, 'HGET', job_key(id), name)
    return ok and value or ''
  end

  function is_made_between(id, filter) return is_between(field_of(id, 'created_at'), filter) end

  -- Whether it has failed, and is meant: the last word, by its record.
  function fits(id, filter)
    local ok, job = pcall(call, 'HMGET', job_key(id), 'status', 'origin', 'x_error', 'x_tags',
      'x_batch', 'created_at')
    if not ok or job[1] ~= 'failed' then return false end
    if filter.queue and base_queue(job[2] or '') ~= filter.queue then return false end
    if filter.error and not has_code(job[3], filter.error) then return false end
    if filter.tag and decoded(job[4])[filter.tag[1]] ~= filter.tag[2] then return false end
    if filter.batch and job[5] ~= filter.batch then return false end
    return is_between(job[6] or '', filter)
  end

  -- The look at many at once: reading each record costs the server 15 us a job, a place in an
  -- index 0.5 us.
  local function kept(ids, keeps)
    local found = {}
    for i, id in ipairs(ids) do
      if keeps(id, i) then found[#found + 1] = id end
    end
    return found
  end

  -- An id tells when a web process made it, by a clock of its own: nearer to a bound than this the
  -- record decides.
  local CLOCK_US = 300 * 1e6
  local function id_at(us) return string.format('%013x', math.max(0, math.min(us, LATEST))) end

  -- Ids in front of the first and behind the second do not fit; those between the other two do.
  function made_bounds(filter)
    local from = microseconds_of(filter.created_after) or 0
    local to = microseconds_of(filter.created_before) or LATEST
    return id_at(from - CLOCK_US), id_at(to + CLOCK_US), id_at(from + CLOCK_US),
      id_at(to - CLOCK_US)
  end

  -- And how many only their records told, which are read; nil where these were more than `most`.
  function made_between(ids, filter, most)
    local before, behind, first, last = made_bounds(filter)
    local told, unsure = {}, 0
    for i, id in ipairs(ids) do
      if not is_sorted(id) then unsure = unsure + 1
      elseif id < before or id > behind then told[i] = 'no'
      elseif id > first and id < last then told[i] = 'yes'
      else unsure = unsure + 1 end
    end
    if most and unsure > most then return nil end
    return kept(ids, function(id, i)
      if told[i] then return told[i] == 'yes' end
      return is_made_between(id, filter)
    end), unsure
  end

  local function with_code(ids, code)
    local found = scores(INDEX .. 'error:' .. code, ids)
    return kept(ids, function(id, i)
      -- A stock producer's jobs stand in the lists under another name.
      return found[i] or (not is_sorted(id) and has_code(field_of(id, 'x_error'), code))
    end)
  end

  local function with_tag(ids, tag)
    local found = scores(INDEX .. 'tag:' .. tag[1] .. ':' .. tag[2], ids)
    return kept(ids, function(_, i) return found[i] end)
  end

  -- In the failed registry of one of its priorities, where each failed job is.
  local function in_queue(ids, queue)
    local found, rest = {}, ids
    for _, name in ipairs(names_of(queue)) do
      local places, others = scores(P .. ':failed:' .. name, rest), {}
      for i, id in ipairs(rest) do
        if places[i] then found[id] = true else others[#others + 1] = id end
      end
      rest = others
    end
    return kept(ids, function(id) return found[id] end)
  end

  -- A batch names its jobs for as long as it is kept.
  local batch
  local function of_batch(ids, wanted)
    if not batch then
      batch = {}
      for _, id in ipairs(call('LRANGE', OURS .. 'batch:' .. wanted .. ':jobs', 0, -1)) do
        batch[id] = true
      end
    end
    local is_kept = next(batch) ~= nil
    return kept(ids, function(id)
      return batch[id] or (not is_kept and field_of(id, 'x_batch') == wanted)
    end)
  end

  -- Those of at most 1,000 ids of a cause that are meant, in their order: as far as indexes know.
  -- A stock tool takes jobs up and tells none of them; the groups do not know yet either. And how
  -- many records it read to know when they were made.
  function fitting(ids, filter)
    local read = 0
    if filter.created_after or filter.created_before then ids, read = made_between(ids, filter) end
    if filter.batch then ids = of_batch(ids, filter.batch) end
    if filter.tag then ids = with_tag(ids, filter.tag) end
    if filter.error then ids = with_code(ids, filter.error) end
    if filter.queue then ids = in_queue(ids, filter.queue) end
    return ids, read
  end
end
