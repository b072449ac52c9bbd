-- glance: which of these jobs may be meant, by a few fields; the records themselves tell more.
-- ARGV: prefix, filter JSON, id …
-- `filter` may have: statuses, type, origins, tag (key, value), error (a code that is plain),
-- fingerprint, by; and `entered`, a status in whose list the jobs are.
-- Answer: their places, from 0, and those of jobs that are gone or no longer belong into that list.
local filter = cjson.decode(ARGV[2])

local function set_of(list)
  if not list then return nil end
  local found = {}
  for _, each in ipairs(list) do found[each] = true end
  return found
end
local statuses, origins = set_of(filter.statuses), set_of(filter.origins)

-- In a JSON text that one of ours wrote no other place can look like that.
local function differs(text, name, value)
  return value and text and not string.find(text, '"' .. name .. '":"' .. value .. '"', 1, true)
end

local function has_tag(text)
  local ok, found = pcall(cjson.decode, text or '{}')
  return not ok or type(found) ~= 'table' or found[filter.tag[1]] == filter.tag[2]
end

local function may_be(job)
  local status, origin, job_type, stock, tags, error, by = unpack(job, 1, 7)
  if not status or (filter.entered and status ~= filter.entered) then return true end
  if statuses and not statuses[status] then return false end
  job_type = job_type or stock
  if filter.type and job_type and job_type ~= filter.type then return false end
  if origins and not origins[origin or 'default'] then return false end
  if filter.by and by ~= filter.by then return false end
  if differs(error, 'code', filter.error) then return false end
  if differs(error, 'fingerprint', filter.fingerprint) then return false end
  return not filter.tag or has_tag(tags)
end

local found = {}
for i = 3, #ARGV do
  local job = redis.pcall('HMGET', job_key(ARGV[i]), 'status', 'origin', 'x_type',
    'x_stock', 'x_tags', 'x_error', 'x_by')
  if job.err or may_be(job) then found[#found + 1] = i - 3 end
end
return found
