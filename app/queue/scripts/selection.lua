-- Which failed jobs are meant. A selection is a filter and a number: what fails later is behind
-- it, and so is what was retried meanwhile and failed again. Nothing of it is copied.
-- `filter` may have: type, queue, error (a code), tag (key, value), batch, created_after,
-- created_before (as in `created_at`); fingerprints are chosen before.

local function decoded(text)
  local ok, found = pcall(cjson.decode, text or '')
  return ok and type(found) == 'table' and found or {}
end

-- In a JSON text that one of ours wrote no other place can look like that.
local function has_code(text, code)
  if string.find(code, '^[%w_.-]+$') then
    return string.find(text or '', '"code":"' .. code .. '"', 1, true) ~= nil
  end
  return decoded(text).code == code
end

-- Whether it has failed, and is meant.
local function fits(id, filter)
  local ok, job = pcall(call, 'HMGET', job_key(id), 'status', 'origin', 'x_error', 'x_tags',
    'x_batch', 'created_at')
  if not ok or job[1] ~= 'failed' then return false end
  if filter.queue and base_queue(job[2] or '') ~= filter.queue then return false end
  if filter.error and not has_code(job[3], filter.error) then return false end
  if filter.tag and decoded(job[4])[filter.tag[1]] ~= filter.tag[2] then return false end
  if filter.batch and job[5] ~= filter.batch then return false end
  local created = job[6] or ''
  if filter.created_after and created < filter.created_after then return false end
  return not (filter.created_before and created >= filter.created_before)
end

-- {score, id} … of a cause behind a number, up to another.
local function members(fp, after, before, count)
  return call('ZRANGEBYSCORE', failure_key(fp, ':jobs'), '(' .. after, before, 'WITHSCORES',
    'LIMIT', 0, count)
end
