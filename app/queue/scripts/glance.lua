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

-- No more fields than it takes: they are read of a thousand jobs.
local fields = { 'status' }
local function needs(is_needed, ...)
  if is_needed then for _, name in ipairs({ ... }) do fields[#fields + 1] = name end end
end
needs(filter.type, 'x_type', 'x_stock')
needs(origins, 'origin')
needs(filter.by, 'x_by')
needs(filter.error or filter.fingerprint, 'x_error')
needs(filter.tag, 'x_tags')

local function may_be(job)
  local status = job[1]
  if not status or status == '' or (filter.entered and status ~= filter.entered) then return true end
  if statuses and not statuses[status] then return false end
  local at = 1
  -- What is empty is as if it were not there.
  local function next_field() at = at + 1 return job[at] ~= '' and job[at] end
  if filter.type then
    local job_type, stock = next_field(), next_field()
    if (job_type or stock or filter.type) ~= filter.type then return false end
  end
  if origins and not origins[next_field() or 'default'] then return false end
  if filter.by and next_field() ~= filter.by then return false end
  if filter.error or filter.fingerprint then
    local error = next_field()
    if differs(error, 'code', filter.error) then return false end
    if differs(error, 'fingerprint', filter.fingerprint) then return false end
  end
  return not filter.tag or has_tag(next_field())
end

local found = {}
for i = 3, #ARGV do
  local job = redis.pcall('HMGET', job_key(ARGV[i]), unpack(fields))
  if job.err or may_be(job) then found[#found + 1] = i - 3 end
end
return found
