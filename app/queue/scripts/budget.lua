-- What may refuse a submission as a whole: budgets, and a key that was used before.
local BATCH_SECONDS = 31 * 86400

-- An answer when the key was used before, or nil. {2, …}: the same request.
local function used_before(id, fingerprint)
  if id == '' then return nil end
  local found = call('HMGET', idempotency_key(id), 'fingerprint', 'id', 'us', 'request', 'pending',
    'status')
  if not found[1] then return nil end
  if found[1] ~= fingerprint then return { 3 } end
  if found[5] and has(OURS .. 'batch:' .. found[2] .. ':todo') then return { 7 } end
  return { 2, found[2], found[3], found[4], found[6] or '',
    call('HEXISTS', idempotency_key(id), 'answer') }
end

-- It could never run. A delay counts from now; of a request with a key only this clock can say
-- whether its time has passed, as it may be one of long ago once more.
local function is_late(job, key)
  if job.expires == '' then return false end
  local wait = key ~= '' and job.place == 'r' and tonumber(job.at) * 1000 or 0
  return tonumber(job.expires) <= NOW_MS + wait
end

-- `wanted` is {queue = {count, bytes}}. {5, queue, jobs that fit}: too deep; {6, queue, bytes
-- that fit}: too many bytes.
local function over_budget(wanted, most_jobs, most_bytes)
  for q, more in pairs(wanted) do
    local depth = call('LLEN', queue_key(q)) + call('ZCARD', P .. ':scheduled:' .. q)
      + call('ZCARD', P .. ':deferred:' .. q)
    if depth + more[1] > most_jobs then return { 5, q, most_jobs - depth } end
    local bytes = tonumber(call('HGET', OURS .. 'bytes', base_queue(q)) or '') or 0
    if bytes + more[2] > most_bytes then return { 6, q, most_bytes - bytes } end
  end
end

local function count_bytes(wanted)
  for q, more in pairs(wanted) do call('HINCRBY', OURS .. 'bytes', base_queue(q), more[2]) end
end

local function record_batch(id, by, request, places, ids)
  local key = OURS .. 'batch:' .. id
  call('HSET', key, 'size', #ids, 'by', by, 'request', request, 'created_at', NOW_ISO)
  if places ~= '' then call('HSET', key, 'places', places) end
  for from = 1, #ids, 500 do
    call('RPUSH', key .. ':jobs', unpack(ids, from, math.min(from + 499, #ids)))
  end
  call('EXPIRE', key, BATCH_SECONDS)
  call('EXPIRE', key .. ':jobs', BATCH_SECONDS)
end
