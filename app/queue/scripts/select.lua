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
-- An intersection by the server itself takes about 2 us a job of the smallest set, where memory
-- is full of them: up to so many at once, and as dear as so many looks.
local AT_ONCE, LOOKS_A_JOB = 4000, 1.2
-- A record that says when its job was made takes as long as so many looks.
local LOOKS_A_RECORD = 2
-- And one whose place in time is known.
local LOOKS_IN_TIME = 1.2
local is_timed = asked.created_after or asked.created_before
local is_only_tag, without_tag = true, {}
for name, value in pairs(asked) do
  if name ~= 'tag' then is_only_tag, without_tag[name] = false, value end
end
local is_tag_in_time = is_timed and not (asked.queue or asked.error or asked.batch)
local count, place, sample = 0, FIRST, {}

-- Whether a cause would take more than is left of this call: then the next begins with it.
local is_put_off = false
local function put_off(looks)
  is_put_off = place > FIRST and looks > left
  return is_put_off
end

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
  if #sample < MOST_SAMPLES then
    local found = call('ZINTER', #sets, unpack(sets))
    count = count + #found
    show(found)
  else
    count = count + call('ZINTERCARD', #sets, unpack(sets))
  end
  return true
end

local function count_by_sets(jobs)
  local sets, smallest = sets_of(jobs)
  if not sets then return false end
  local looks = 1 + smallest * LOOKS_A_JOB * (filter.queue and 3 or 1)
  if put_off(looks) then return false end
  if filter.queue then
    for _, name in ipairs(names_of(filter.queue)) do
      sets[#sets + 1] = P .. ':failed:' .. name
      if not count_common(sets) then return false end
      sets[#sets] = nil
    end
  elseif not count_common(sets) then
    return false
  end
  left = left - looks
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

local function search(ids, wanted, looks)
  local found = {}
  for at = 1, #ids, PIECE do
    for _, id in ipairs(fitting({ unpack(ids, at, math.min(at + PIECE - 1, #ids)) }, wanted)) do
      found[#found + 1] = id
    end
  end
  left = left - #ids * looks
  return found
end

-- Those whose records have to say when they were made; nil where these are too many.
local function near_bounds(list, from, to, first, last)
  if first >= last then return ids_between(list, '[' .. from, '[' .. to, PIECE) end
  local near = ids_between(list, '[' .. from, '[' .. first, PIECE)
  local more = near and ids_between(list, '[' .. last, '[' .. to, PIECE - #near)
  for _, id in ipairs(more or {}) do near[#near + 1] = id end
  return more and near
end

-- Of most jobs of the cause it is told by the others: how many have the tag at all is known.
local function count_by_others(list, with_tag, near)
  local from, to, first, last = made_bounds(filter)
  local tagged = { tag = filter.tag }
  local newest = #sample < MOST_SAMPLES and call('ZREVRANGEBYLEX', list, '(' .. last,
    '(' .. first, 'LIMIT', 0, NEWEST) or {}
  for i, entry in ipairs(newest) do newest[i] = id_of(entry) end
  local found, others = search(newest, tagged, 1), 0
  if #found < MOST_SAMPLES - #sample then return false end
  for _, ids in ipairs({ near, ids_between(list, '-', '(' .. from, AT_ONCE),
    ids_between(list, '(' .. to, '+', AT_ONCE) }) do
    others = others + #search(ids, tagged, LOOKS_IN_TIME)
  end
  count = count + with_tag - others
  show(found)
  return true
end

-- Only those that were made at the right time are looked for in the sets of what else is asked.
local function count_in_time(jobs, fp, with_tag)
  local list, size = INDEX .. 'fingerprint:' .. fp, call('ZCARD', jobs)
  if size > AT_ONCE or call('ZCARD', list) ~= size then return false end
  local from, to, first, last = made_bounds(filter)
  local near, within = near_bounds(list, from, to, first, last), 0
  if not near then return false end
  if first < last then within = call('ZLEXCOUNT', list, '(' .. first, '(' .. last) end
  local is_by_others = with_tag and is_tag_in_time and 2 * within > size
  local looks = (is_by_others and size - within or within) * LOOKS_IN_TIME
  if put_off(1 + looks + #near * LOOKS_A_RECORD) then return false end
  left = left - 1
  if not (is_by_others and count_by_others(list, with_tag, near)) and within > 0 then
    local ids = ids_between(list, '(' .. first, '(' .. last, AT_ONCE)
    local found = search(ids, { queue = filter.queue, error = filter.error, tag = filter.tag },
      LOOKS_IN_TIME)
    count = count + #found
    show(found)
  end
  local found = search(near, filter, LOOKS_A_RECORD)
  count = count + #found
  show(found)
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
  if is_timed and count_in_time(jobs, fp, with_tag) then return true end
  return not is_put_off and count_by_sets(jobs)
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
  if ok and is_put_off then break end
  if not (ok and is_done) then
    -- Of what was counted before a key was found to be something else nothing remains.
    count = counted
    for i = #sample, shown + 1, -1 do sample[i] = nil end
    is_done = count_piece(ARGV[place])
  end
  if is_done then place, after = place + 1, '0' end
end
return { count, place - FIRST, after, unpack(sample) }
