-- Which failed jobs are meant. A selection is a filter and a number: what fails later is behind
-- it, and so is what was retried meanwhile and failed again. Nothing of it is copied.
-- `filter` may have: type, queue, error (a code), tag (key, value), batch, created_after,
-- created_before (as in `created_at`); fingerprints are chosen before.

-- Whether the cause alone decides.
local function is_plain(filter)
  return not (filter.queue or filter.error or filter.tag or filter.batch
    or filter.created_after or filter.created_before)
end

local function decoded(text)
  local ok, found = pcall(cjson.decode, text or '')
  return ok and type(found) == 'table' and found or {}
end

local function fits(id, filter)
  if is_plain(filter) then return true end
  local job = call('HMGET', job_key(id), 'origin', 'x_error', 'x_tags', 'x_batch', 'created_at')
  if filter.queue and base_queue(job[1] or '') ~= filter.queue then return false end
  if filter.error and decoded(job[2]).code ~= filter.error then return false end
  if filter.tag and decoded(job[3])[filter.tag[1]] ~= filter.tag[2] then return false end
  if filter.batch and job[4] ~= filter.batch then return false end
  local created = job[5] or ''
  if filter.created_after and created < filter.created_after then return false end
  return not (filter.created_before and created >= filter.created_before)
end

-- {score, id} … of a cause behind a number, up to another.
local function members(fp, after, before, count)
  return call('ZRANGEBYSCORE', failure_key(fp, ':jobs'), '(' .. after, before, 'WITHSCORES',
    'LIMIT', 0, count)
end

local function is_failed(id)
  return call('TYPE', job_key(id)).ok == 'hash' and call('HGET', job_key(id), 'status') == 'failed'
end
