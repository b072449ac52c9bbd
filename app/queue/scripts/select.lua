-- select: how many failed jobs of some causes fit, a piece at a time.
-- ARGV: prefix, filter JSON, behind which number of the first cause, up to which, most to look
--   at, fingerprint …
-- Answer: {count, causes that are done with, number of the last that was looked at in the next
--   one, some ids …}
local asked, after, before, left = cjson.decode(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])
-- What is asked, less what all jobs of the cause have.
local filter = asked
local MOST_SAMPLES, PIECE, FIRST = 10, 1000, 6
-- So many of the newest show mostly enough of those that fit.
local NEWEST = 100
-- An intersection by the server itself takes about 1 us a job of the smallest set, where memory
-- is full of them: up to so many at once, and as dear as so many looks.
local AT_ONCE, LOOKS_A_JOB = 4000, 0.6
-- A record that says when its job was made takes as long as so many looks.
local LOOKS_A_RECORD = 2
-- And one whose place in time is known.
local LOOKS_IN_TIME = 0.6
local is_timed = asked.created_after or asked.created_before
local is_only_tag, without_tag = true, {}
for name, value in pairs(asked) do
  if name ~= 'tag' then is_only_tag, without_tag[name] = false, value end
end
local count, place, sample = 0, FIRST, {}

local function show(ids)
  for _, id in ipairs(ids) do
    if #sample == MOST_SAMPLES then return end
    sample[#sample + 1] = id
  end
end

-- The sets whose common members fit; and how large the smallest is. Nil where sets cannot tell.
local function sets_of(jobs)
  local sets, smallest = { jobs }, call('ZCARD', jobs)
  if smallest > AT_ONCE and filter.error then return nil end
  if filter.tag then sets[2] = INDEX .. 'tag:' .. filter.tag[1] .. ':' .. filter.tag[2] end
  if filter.error then
    sets[#sets + 1] = INDEX .. 'error:' .. filter.error
    -- A stock producer's jobs stand in the lists under another name.
    if call('ZINTERCARD', 2, jobs, INDEX .. 'status:failed') < smallest then return nil end
  end
  for i = 2, #sets do smallest = math.min(smallest, call('ZCARD', sets[i])) end
  if smallest > AT_ONCE then return nil end
  return sets, smallest
end

-- False: more records would have to be read than one call may.
local function count_common(sets)
  if is_timed then
    local found, read = made_between(call('ZINTER', #sets, unpack(sets)), filter, PIECE)
    if not found then return false end
    left = left - read * LOOKS_A_RECORD
    count = count + #found
    show(found)
    return true
  end
  local found = call('ZINTERCARD', #sets, unpack(sets))
  count = count + found
  if found > 0 and #sample < MOST_SAMPLES then show(call('ZINTER', #sets, unpack(sets))) end
  return true
end

local function count_by_sets(jobs)
  local sets, smallest = sets_of(jobs)
  if not sets then return false end
  if filter.queue then
    for _, name in ipairs(names_of(filter.queue)) do
      sets[#sets + 1] = P .. ':failed:' .. name
      if not count_common(sets) then return false end
      sets[#sets] = nil
    end
  elseif not count_common(sets) then
    return false
  end
  left = left - 1 - smallest * LOOKS_A_JOB * (filter.queue and 3 or 1)
  return true
end

-- Entries whose records have to say whether they fit. False: as many as may be read, or more; else
-- how many more may be.
local function count_near(list, from, to, most)
  local entries, found = call('ZRANGEBYLEX', list, from, to, 'LIMIT', 0, most), {}
  left = left - #entries * LOOKS_A_RECORD
  for _, entry in ipairs(entries) do
    if is_made_between(id_of(entry), filter) then found[#found + 1] = id_of(entry) end
  end
  count = count + #found
  show(found)
  return #entries < most and most - #entries
end

-- The list of a cause is in the order in which jobs were made. Others are in it only while they
-- wait for another attempt: where it has as many as have failed, it has just those.
local function count_by_list(jobs, fp)
  local list = INDEX .. 'fingerprint:' .. fp
  if call('ZCARD', list) ~= call('ZCARD', jobs) then return false end
  local from, to, first, last = made_bounds(filter)
  left = left - 1
  if first >= last then return count_near(list, '[' .. from, '[' .. to, PIECE) end
  local between = call('ZLEXCOUNT', list, '(' .. first, '(' .. last)
  count = count + between
  for _, entry in ipairs(call('ZREVRANGEBYLEX', list, '(' .. last, '(' .. first, 'LIMIT', 0,
    MOST_SAMPLES)) do
    show({ id_of(entry) })
  end
  local more = count_near(list, '[' .. from, '[' .. first, PIECE)
  return more and count_near(list, '[' .. last, '[' .. to, more)
end

-- Ids out of such a list; nil where there are more than `most`.
local function ids_between(list, from, to, most)
  local entries = call('ZRANGEBYLEX', list, from, to, 'LIMIT', 0, most + 1)
  if #entries > most then return nil end
  for i, entry in ipairs(entries) do
    if not is_sorted(entry) then entries[i] = id_of(entry) end
  end
  return entries
end

-- Only those that were made at the right time are looked for in the sets of what else is asked.
local function count_in_time(jobs, fp)
  local list, size = INDEX .. 'fingerprint:' .. fp, call('ZCARD', jobs)
  if size > AT_ONCE or call('ZCARD', list) ~= size then return false end
  local from, to, first, last = made_bounds(filter)
  local beside_time = { queue = filter.queue, error = filter.error, tag = filter.tag }
  local parts = {}
  if first < last then
    parts[1] = ids_between(list, '(' .. first, '(' .. last, AT_ONCE)
    parts[2] = ids_between(list, '[' .. from, '[' .. first, PIECE)
    parts[3] = parts[2] and ids_between(list, '[' .. last, '[' .. to, PIECE - #parts[2])
  else
    parts[1], parts[2] = {}, {}
    parts[3] = ids_between(list, '[' .. from, '[' .. to, PIECE)
  end
  if not parts[3] then return false end
  for part, ids in ipairs(parts) do
    for at = 1, #ids, PIECE do
      local some = { unpack(ids, at, math.min(at + PIECE - 1, #ids)) }
      local found = fitting(some, part == 1 and beside_time or filter)
      left = left - #some * (part == 1 and LOOKS_IN_TIME or LOOKS_A_RECORD)
      count = count + #found
      show(found)
    end
  end
  left = left - 1
  return true
end

-- How many of the cause have the tag is known, and nothing else is asked. False: those to be shown
-- are too rare among the newest.
local function count_by_tally(jobs, with_tag)
  if #sample < MOST_SAMPLES then
    local newest = call('ZREVRANGE', jobs, 0, NEWEST - 1)
    local found = fitting(newest, filter)
    left = left - #newest
    if #found < math.min(with_tag, MOST_SAMPLES - #sample) then return false end
    show(found)
  end
  count = count + with_tag
  left = left - 1
  return true
end

local function count_all(jobs)
  count = count + call('ZCARD', jobs)
  if #sample < MOST_SAMPLES then show(call('ZREVRANGE', jobs, 0, MOST_SAMPLES - 1)) end
  left = left - 1
  return true
end

-- The whole cause in one step. False where it has to be looked at piece by piece.
local function count_at_once(fp)
  local jobs, with_tag, size = failure_key(fp, ':jobs'), nil, nil
  filter = asked
  if asked.tag then with_tag, size = tallied(fp, asked.tag) end
  if with_tag == 0 then
    left = left - 1
    return true
  end
  if with_tag and with_tag == size then filter = without_tag end
  if filter.batch or call('ZCOUNT', jobs, '(' .. before, '+inf') > 0 then return false end
  if next(filter) == nil then return count_all(jobs) end
  local has_sets = filter.queue or filter.error or filter.tag
  if not has_sets then return count_by_list(jobs, fp) end
  if with_tag and is_only_tag then return count_by_tally(jobs, with_tag) or count_by_sets(jobs) end
  return is_timed and count_in_time(jobs, fp) or count_by_sets(jobs)
end

-- True when there are no more.
local function count_piece(fp)
  local most = math.min(PIECE, math.max(1, math.floor(left)))
  local ids = members(fp, after, before, most)
  left = left - 1 - #ids
  if #ids > 0 then after = call('ZSCORE', failure_key(fp, ':jobs'), ids[#ids]) end
  local found, read = fitting(ids, filter)
  left = left - read * LOOKS_A_RECORD
  count = count + #found
  show(found)
  return #ids < most
end

while ARGV[place] and left > 0 do
  local counted, shown = count, #sample
  local ok, is_done = after == '0', false
  if ok then ok, is_done = pcall(count_at_once, ARGV[place]) end
  if not (ok and is_done) then
    -- Of what was counted before a key was found to be something else nothing remains.
    count = counted
    for i = #sample, shown + 1, -1 do sample[i] = nil end
    is_done = count_piece(ARGV[place])
  end
  if is_done then place, after = place + 1, '0' end
end
return { count, place - FIRST, after, unpack(sample) }
