-- Tags of failed jobs that nobody has counted: what failed before they were counted, and what older
-- releases told nobody.
-- In a block of its own, as a script may have 200 names.
local recount
do
  local JOBS = 250

  -- How many it has counted, at most so many. None where something is wrong: it is met again, and not
  -- at once, which would keep upkeep busy.
  local function recount_cause(fp, most)
    local jobs = failure_key(fp, ':jobs')
    local ok, facts = pcall(call, 'HMGET', failure_key(fp, ':tags'), 'jobs', 'upto')
    local counted, last = tonumber(ok and facts[1] or 0), tonumber(ok and facts[2] or 0)
    if not ok or counted ~= call('ZCOUNT', jobs, '-inf', last) then
      drop_tally(fp)
      return 0
    end
    local some = call('ZRANGEBYSCORE', jobs, '(' .. last, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
    for i = 1, #some, 2 do
      local number = tonumber(some[i + 1])
      if not tally_in(fp, some[i], number, last) then return 0 end
      last = number
    end
    return #some / 2
  end

  -- Of causes that the walk over all that have failed has met. True when it found something: there
  -- may be more.
  function recount()
    local left = JOBS
    for fp in pairs(met) do
      if left <= 0 or is_enough() then return true end
      local ok, counted = pcall(recount_cause, fp, left)
      left = left - (ok and counted or 0)
    end
    return left < JOBS
  end
end
