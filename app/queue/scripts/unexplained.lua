-- unexplained: failed jobs that no worker of ours has told the cause of: stock workers and tools write
-- a traceback and nothing else (RQ 3.0.0).
-- ARGV: prefix, then names of queues
-- Answer: {id, type or '', traceback as RQ packs it, data or ''} …
local PLACE = OURS .. 'unexplained_at'
-- The newest ones of a queue each time, and then from where it was: a slow walk over all.
local NEWEST, PIECE, MOST, MOST_COMMANDS, MOST_BYTES = 50, 200, 32, 1000, 1048576
local found, bytes = {}, 0

local function is_explained(id)
  local fp = noted(OURS .. 'errors', id).fingerprint
  return type(fp) == 'string' and (call('ZSCORE', failure_key(fp, ':jobs'), id)
    or call('ZSCORE', INDEX .. 'status:failed', call('HGET', job_key(id), 'x_entry') or id))
end

local function look_at(id)
  if not is_id(id) or call('TYPE', job_key(id)).ok ~= 'hash' then return end
  local job = call('HMGET', job_key(id), 'status', 'x_type', 'x_stock', 'exc_info')
  if job[1] ~= 'failed' or is_explained(id) then return end
  local last = call('XREVRANGE', P .. ':results:' .. id, '+', '-', 'COUNT', 1)[1] or { '', {} }
  local traceback = job[4] or ''
  for i = 1, #last[2], 2 do
    if last[2][i] == 'exc_string' then traceback = last[2][i + 1] end
  end
  local name = job[2] or job[3]
  local data = not name and call('HSTRLEN', job_key(id), 'data') < MOST_BYTES
    and call('HGET', job_key(id), 'data')
  bytes = bytes + #traceback + (data and #data or 0)
  found[#found + 1] = { id, name or '', traceback, data or '' }
end

local function is_enough()
  return #found >= MOST or spent >= MOST_COMMANDS or bytes >= MOST_BYTES
end

local function look_through(q)
  local key = P .. ':failed:' .. q
  local at = tonumber(call('HGET', PLACE, q) or '') or 0
  for _, id in ipairs(at > 0 and call('ZREVRANGE', key, 0, NEWEST - 1) or {}) do
    if is_enough() then return end
    pcall(look_at, id)
  end
  local ids = call('ZREVRANGE', key, at, at + PIECE - 1)
  local last = at + #ids
  for _, id in ipairs(ids) do
    if is_enough() then break end
    pcall(look_at, id)
    at = at + 1
  end
  if #ids == PIECE or at < last then call('HSET', PLACE, q, at) else call('HDEL', PLACE, q) end
end

for i = 2, #ARGV do
  if is_enough() then break end
  pcall(look_through, ARGV[i])
end
return found
