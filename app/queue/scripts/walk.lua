-- Through all that waits in queues, a piece a call: what must not be forgotten is kept, and jobs of
-- stock producers are found.
local WALKS, WALK_AT = OURS .. 'walked', OURS .. 'walk_at'
-- Entries a call, and how many to look through for the place where the last call came to: that
-- costs about 10 ns each.
local WALK, WALK_REACH, WALK_MS = 250, 100000, 1000
local MOST_STRANGERS, LARGE_BODY, data_left = 32, 262144, 1048576
local strangers, sought = {}, false

local ENDED = { finished = true, failed = true, canceled = true, stopped = true }

-- A job that waits. What RQ's `requeue` put there, or a stock producer under an id that has been
-- used before, still has the TTL of the record that ended (RQ 3.0.0). One that a stock producer
-- gave a `ttl` of its own is to be forgotten then.
local function look_at(id)
  local key = job_key(id)
  if call('TTL', key) >= 0 then
    local job = call('HMGET', key, 'status', 'ttl')
    if job[1] and not ENDED[job[1]] and not job[2] then spare(id) end
  end
  if is_sorted(id) or #strangers >= MOST_STRANGERS or not is_id(id) then return end
  local job = call('HMGET', key, 'status', 'x_type', 'x_stock')
  if not job[1] or job[2] or job[3] then return end
  entry_of(id)
  local size = call('HSTRLEN', key, 'data')
  if size > math.min(LARGE_BODY, data_left) then return end
  data_left = data_left - size
  strangers[#strangers + 1] = { id, call('HGET', key, 'data') or '' }
end

-- The place behind the entry that was looked at last. When that one has gone, so has all in front
-- of it, and it begins anew. Deep inside a queue that moves, some entries are missed: they come
-- nearer, and it comes by again.
local function place_in(key, q)
  local at, last = string.match(call('HGET', WALKS, q) or '', '^(%d+):(.*)$')
  if not at then return 0 end
  at = tonumber(at)
  if call('LINDEX', key, at) == last then return at + 1 end
  sought = true
  local rank = at > call('LLEN', key) / 2 and -1 or 1
  local found = call('LPOS', key, last, 'RANK', rank, 'MAXLEN', WALK_REACH)
  return found and found + 1 or at >= WALK_REACH and at or 0
end

-- How many entries of this queue it has looked at.
local function walk_queue(q, most)
  local key, looked = queue_key(q), 0
  if call('TYPE', key).ok ~= 'list' then return 0 end
  local at = place_in(key, q)
  local ids = call('LRANGE', key, at, at + most - 1)
  for _, id in ipairs(ids) do
    if is_enough() then break end
    pcall(look_at, id)
    looked = looked + 1
  end
  if looked == most or looked < #ids then
    if looked > 0 then call('HSET', WALKS, q, (at + looked - 1) .. ':' .. ids[looked]) end
  elseif at > 0 then call('HDEL', WALKS, q) end
  return looked
end

-- Where it was in queues that are no more.
local function forget_walks()
  for _, q in ipairs(call('HRANDFIELD', WALKS, MOST)) do
    if call('TYPE', queue_key(q)).ok ~= 'list'
      or call('SISMEMBER', P .. ':queues', queue_key(q)) == 0 then
      call('HDEL', WALKS, q)
    end
  end
end

-- Queues in turn, after `last`, as many as there is time for.
local function walk_after(last)
  local names, keys, first, left = names_of_queues(), {}, 0, WALK
  for i, q in ipairs(names) do keys[i] = queue_key(q) end
  keys[#keys + 1] = WALKS
  if #names == 0 or call('EXISTS', unpack(keys)) == 0 then return nil end
  -- One that is something else is none of ours.
  if not pcall(forget_walks) then call('DEL', WALKS) end
  while names[first + 1] and names[first + 1] <= last do first = first + 1 end
  for i = 0, #names - 1 do
    last = names[(first + i) % #names + 1]
    left = left - walk_queue(last, left)
    if left <= 0 or sought or is_enough() then break end
  end
  return last
end

-- `note` is when it is to go on, and the queue where it was: soon, while there is a long one.
local function walk(note, interval)
  local ok, last = pcall(walk_after, string.match(note or '', '^%d+:(.*)$') or '')
  local wait = ok and last and has(WALKS) and WALK_MS or interval
  call('SET', WALK_AT, string.format('%.0f:%s', NOW_MS + wait, ok and last or ''), 'PX', 2 * interval)
end
