-- made: when jobs were made, as their records say. ARGV: prefix, id …
-- Answer: `created_at` of each, nil where there is none.
local found = {}
for i = 2, #ARGV do
  local at = redis.pcall('HGET', job_key(ARGV[i]), 'created_at')
  found[i - 1] = type(at) == 'string' and at or false
end
return found
