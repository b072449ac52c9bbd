-- The moves that several transitions make.
-- Stock tools clean `wip` by the caller's clock and would fail live jobs (RQ 3.0.0,
-- StartedJobRegistry.cleanup): far beyond the job's own time-out they leave them alone.
local HORIZON = 3600
local ENDLESS = 86400
local TRAIL_BYTES = 32768

local function execution_key(composite) return P .. ':execution:' .. composite end
local function worker_key(w) return P .. ':worker:' .. w end
local function held_key(w) return P .. ':worker:' .. w .. ':executions' end
-- Its name without a priority: what is paused and counted is the whole of it.
local function base_queue(q)
  return (string.gsub(string.gsub(q, '%.high$', ''), '%.low$', ''))
end
local function split_composite(composite) return string.match(composite, '^([^:]*):(.*)$') end

-- RQ's ids are letters, numbers, dashes and underscores (RQ 3.0.0, job.py). Others are taken too,
-- but none that could not be told from an execution, or that no tool could read.
local function is_id(id) return not string.find(id, '[:%c\128-\255]') end

-- Under a name where no transition meets it, for a day.
local function put_aside(id)
  local aside = OURS .. 'broken:' .. id
  if not has(job_key(id)) then return end
  call('RENAME', job_key(id), aside)
  call('EXPIRE', aside, ENDLESS)
end

local function queue_names()
  local names, cut = {}, #queue_key('')
  for _, key in ipairs(call('SMEMBERS', P .. ':queues')) do
    names[#names + 1] = string.sub(key, cut + 1)
  end
  return names
end

-- The trail is kept in the job's own hash, so that it lives and goes with the job whoever
-- deletes it: lines of JSON, [number, microseconds, event, detail]. The oldest give way when it grows
-- too long. Each line is told to who listens to the job as it is written.
local function append_trail(id, trail, event, detail)
  local last = 0
  if trail and trail ~= '' then
    last = tonumber(string.match(trail, '.*\n%[(%d+),') or string.match(trail, '^%[(%d+),')) or 0
  end
  local line = string.format('[%d,%s,"%s"%s]', last + 1, NOW_US, event,
    (detail and detail ~= '') and (',' .. detail) or '')
  call('PUBLISH', OURS .. 'job:' .. id, line)
  local grown = last > 0 and (trail .. '\n' .. line) or line
  while #grown > TRAIL_BYTES do
    local cut = string.find(grown, '\n', 1, true)
    if not cut then break end
    grown = string.sub(grown, cut + 1)
  end
  return grown
end

-- Of how far a run is the newest words are kept; numbers go on, so that who comes back to the
-- stream misses none that there still is.
local MOST_PROGRESS = 10
local function note_progress(id, text)
  local key = job_key(id)
  local trail, told = unpack(call('HMGET', key, 'x_trail', 'x_progress'))
  if told == text then return trail end -- it also comes with the end of the run
  if trail then
    local _, count = string.gsub(trail, '\n%[%d+,%d+,"progress",', '%0')
    if count >= MOST_PROGRESS then
      trail = string.gsub(trail, '\n%[%d+,%d+,"progress",[^\n]*', '', 1)
    end
  end
  trail = append_trail(id, trail, 'progress', text)
  call('HSET', key, 'x_progress', text, 'x_trail', trail)
  return trail
end

local function note(id, event, detail)
  local key = job_key(id)
  call('HSET', key, 'x_trail', append_trail(id, call('HGET', key, 'x_trail'), event, detail))
end

-- Which queues got something to do; told to sleeping workers once, at the end of the script.
local woken = {}
local function push(q, id, front)
  -- Who has spoilt the names of queues must not keep jobs from them.
  if not woken[q] then redis.pcall('SADD', P .. ':queues', queue_key(q)) end
  call(front and 'LPUSH' or 'RPUSH', queue_key(q), id)
  woken[q] = true
end

local function wake()
  local names = {}
  for q in pairs(woken) do names[#names + 1] = q end
  if #names > 0 then call('PUBLISH', OURS .. 'wake', table.concat(names, ',')) end
end

-- A live execution of the job, other than `except`. Entries whose hash is gone are dropped.
local function live_execution(id, except)
  local key = P .. ':executions:' .. id
  for _, ex in ipairs(call('ZRANGE', key, 0, -1)) do
    if ex ~= except then
      if has(execution_key(id .. ':' .. ex)) then return ex end
      call('ZREM', key, ex)
    end
  end
  return false
end

local function drop_execution(worker, q, id, ex)
  local composite = id .. ':' .. ex
  call('DEL', execution_key(composite))
  call('ZREM', P .. ':executions:' .. id, ex)
  call('ZREM', P .. ':wip:' .. q, composite)
  if worker then call('SREM', held_key(worker), composite) end
end

-- By what it said when it was born: its record may have expired, if nobody looked for so long. A
-- key that is something else must not keep it, or its neighbours, alive.
local function strike_off(worker)
  local key = worker_key(worker)
  redis.pcall('SREM', P .. ':workers', key)
  local queues = redis.pcall('HGET', OURS .. 'listens', worker)
  for q in string.gmatch(type(queues) == 'string' and queues or '', '[^,]+') do
    redis.pcall('SREM', P .. ':workers:' .. q, key)
  end
end

-- A job whose run was cut short goes back in front. Whoever asked to stop that run wanted the
-- job to end: the next claim cancels it.
local function put_back(id, q, stopped_by)
  call('HSET', job_key(id), 'status', 'queued')
  if stopped_by then call('HSET', job_key(id), 'x_stop', stopped_by) end
  push(q, id, true)
end

-- Who asked to stop that execution; false where nobody did, or its record is something else.
local function asked_to_stop(composite)
  local by = redis.pcall('HGET', execution_key(composite), 'x_stop')
  return type(by) == 'string' and by
end

-- What a worker holds and does not run goes back in front; true when it did. It may have
-- begun there: the next run is told. A record that is broken or gone leaves nothing to give.
local function give_back(worker, composite)
  local id, ex = split_composite(composite)
  local job = {}
  if id and call('TYPE', job_key(id)).ok == 'hash' then
    job = call('HMGET', job_key(id), 'origin', 'status')
  end
  local stopped_by = asked_to_stop(composite)
  drop_execution(worker, job[1] or '', id or composite, ex or '')
  -- The execution's own record may have expired: nobody else would look for the job from here on.
  if not job[1] or job[2] ~= 'started' or live_execution(id, ex) then return false end
  call('HSET', job_key(id), 'x_interrupted', 1)
  note(id, 'interrupted')
  put_back(id, job[1], stopped_by)
  return true
end

