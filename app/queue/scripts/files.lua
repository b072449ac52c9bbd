-- Files in Redis: a record by name, its pieces by a number of their own, and what all of them
-- take. Each has a TTL; `held` says when the bytes of one count no more.
local HELD, SIZES, NAMES = OURS .. 'files:held', OURS .. 'files:sizes', OURS .. 'files:names'
local TOTAL = OURS .. 'files:bytes'
local MOST_FORGOTTEN = 100

local function file_key(name) return OURS .. 'file:' .. name end
local function piece_key(id, number) return OURS .. 'file-piece:' .. id .. ':' .. number end

local function weigh(id, bytes)
  local before = tonumber(call('HGET', SIZES, id) or '') or 0
  if bytes == 0 then call('HDEL', SIZES, id) else call('HSET', SIZES, id, bytes) end
  return call('INCRBY', TOTAL, bytes - before)
end

-- What Redis has let expire gives its room back.
local function forget_expired()
  local due = call('ZRANGEBYSCORE', HELD, '-inf', NOW_S, 'LIMIT', 0, MOST_FORGOTTEN)
  for _, member in ipairs(due) do
    local id, name = string.match(member, '^(%S+) (.*)$')
    call('ZREM', HELD, member)
    if id then weigh(id, 0) end
    if name and name ~= '' and not has(file_key(name)) then call('ZREM', NAMES, name) end
  end
  return #due
end

local function expire_pieces(id, count, seconds)
  local found = 0
  for number = 1, count do found = found + call('EXPIRE', piece_key(id, number), seconds) end
  return found
end

local function remove_pieces(id, count)
  for number = 1, count do call('DEL', piece_key(id, number)) end
  weigh(id, 0)
end

-- The name is free at once; who is reading has a moment to come to the end.
local function retire(name, grace)
  local record = call('HMGET', file_key(name), 'id', 'pieces')
  if not record[1] then return end
  call('DEL', file_key(name))
  call('ZREM', NAMES, name)
  expire_pieces(record[1], tonumber(record[2]), grace)
  call('ZADD', HELD, NOW_S + grace, record[1] .. ' ' .. name)
end
