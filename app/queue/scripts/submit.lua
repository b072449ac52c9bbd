-- submit: new jobs become queued or scheduled; each is a record and an entry, or nothing.
-- ARGV: prefix, submitter, seq, count, then a job: id, queue, place, at, n, field, value, … (n/2 pairs)
-- place: q now; s at `at` seconds since 1970; r `at` seconds from now, by this server's clock.
-- Answer: {now in microseconds, {code a job}}: 1 accepted, 0 that id is taken, -1 a key has another type.
local submitter, seq, count = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local seen_key = OURS .. 'submitter:' .. submitter
local seen = call('GET', seen_key)
if seen then
  -- The reply was lost and the same call comes again: the same answer, whatever became of
  -- the jobs since (one with retention 0 may be done and gone).
  local answer = cjson.decode(seen)
  if answer[1] >= seq then return { answer[2], answer[3] } end
end

local function accept(id, q, place, at, fields)
  local key = job_key(id)
  local found = call('TYPE', key).ok
  if found ~= 'none' and found ~= 'hash' then return 0 end
  -- A large body was written just before, with a TTL and no status yet.
  local staged = call('HMGET', key, 'status', 'data')
  if staged[1] or (found == 'hash' and not staged[2]) then return 0 end
  local kind = call('TYPE', place == 'q' and queue_key(q) or P .. ':scheduled:' .. q).ok
  if kind ~= 'none' and kind ~= (place == 'q' and 'list' or 'zset') then return -1 end
  call('HSET', key, 'created_at', NOW_ISO, unpack(fields))
  if call('HEXISTS', key, 'data') == 0 then error('its body is gone') end
  if staged[2] then call('PERSIST', key) end
  if place == 'q' then
    call('HSET', key, 'status', 'queued', 'enqueued_at', NOW_ISO)
    push(q, id)
    return 1
  end
  local due = place == 'r' and NOW_S + tonumber(at) or tonumber(at)
  call('HSET', key, 'status', 'scheduled', 'x_at', string.format('%.0f', due * 1000))
  call('SADD', P .. ':queues', queue_key(q))
  call('ZADD', P .. ':scheduled:' .. q, string.format('%.6f', due), id)
  woken['@'] = true
  return 1
end

-- As text: cjson and the reply would round a number of this size.
local NOW_US = string.format('%d%06d', clock[1], clock[2])
local answers, at = {}, 5
for i = 1, count do
  local n = tonumber(ARGV[at + 4])
  local fields = {}
  for j = 1, n do fields[j] = ARGV[at + 4 + j] end
  local ok, code = pcall(accept, ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], fields)
  if not ok then call('DEL', job_key(ARGV[at])) end
  answers[i] = ok and code or -1
  at = at + 5 + n
end
call('SET', seen_key, cjson.encode({ seq, NOW_US, answers }), 'EX', 300)
wake()
return { NOW_US, answers }
