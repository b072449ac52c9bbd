-- Taking over from a worker that is silent. Of the ARGV of `recover`: abandoned limit, failure ttl,
-- exc_string of an abandoned job.
local limit, failure_ttl, abandoned_exc = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
-- About so many commands a call, of some microseconds each: the server is held for 2 ms or 3.
local MOST_COMMANDS, MOST = 2000, 50
local fates, more = {}, 0

-- Once a call, in order.
local names_in_order
local function names_of_queues()
  if not names_in_order then
    names_in_order = queue_names()
    table.sort(names_in_order)
  end
  return names_in_order
end

local function is_enough() return spent >= MOST_COMMANDS end

local function abandon(worker, q, id, ex)
  local stop = asked_to_stop(id .. ':' .. ex)
  drop_execution(worker, q, id, ex)
  local key = job_key(id)
  local job = call('HMGET', key, 'status', 'x_type', 'x_attempt', 'x_abandoned', 'failure_ttl', 'x_req',
    'result_ttl')
  if job[1] ~= 'started' or live_execution(id, ex) then return end
  local count = (tonumber(job[4] or '') or 0) + 1
  local fate = 'requeued'
  call('HSET', key, 'x_abandoned', count)
  tally('recovered', q, job[2])
  note(id, 'recovered', string.format('{"worker":"%s"}', worker or ''))
  if stop then
    fate = 'stopped'
    local ttl = tonumber(job[7] or '') or ENDLESS
    call('HSET', key, 'status', 'stopped', 'ended_at', NOW_ISO, 'x_reason', 'requested')
    call('ZADD', P .. ':failed:' .. q, registry_score(ttl), id)
    note(id, 'stopped', cjson.encode({ reason = 'requested', by = stop }))
    leave(id, 'stopped')
    settle_dependents(id, 'stopped')
    keep_failed(id, ttl)
  elseif count >= limit then
    fate = 'failed'
    note(id, 'failed')
    fail(id, q, cjson.encode({ code = 'abandoned', class = 'AbandonedJobError', retryable = false,
      message = 'Its worker died ' .. count .. ' times while running it',
      fingerprint = fingerprint_of(job[2], 'AbandonedJobError',
        'Its worker died … times while running it') }), abandoned_exc,
      tonumber(job[5] or '') or failure_ttl)
  else
    put_back(id, q)
  end
  fates[#fates + 1] = { id, job[2] or '', q, tonumber(job[3] or '') or 0, fate, worker or '',
    job[6] or '' }
end

local function take_over(worker, q, id, ex, composite)
  local ok, problem = pcall(abandon, worker or nil, q or '', id or composite, ex or '')
  if ok then return end
  if worker then redis.pcall('SREM', held_key(worker), composite) end
  redis.pcall('ZREM', P .. ':wip:' .. (q or ''), composite)
  if q and id and has(job_key(id)) then pcall(bury, q, id, problem, abandoned_exc) end
end

local function bury_worker(worker)
  for _, composite in ipairs(redis.pcall('SMEMBERS', held_key(worker))) do
    if #fates >= MOST or is_enough() then more = 1; return end
    local id, ex = split_composite(composite)
    local q = id and call('TYPE', job_key(id)).ok == 'hash' and call('HGET', job_key(id), 'origin')
    take_over(worker, q, id, ex, composite)
  end
  strike_off(worker)
  call('DEL', worker_key(worker), held_key(worker))
  call('ZREM', OURS .. 'beats', worker)
  redis.pcall('HDEL', OURS .. 'listens', worker)
end
