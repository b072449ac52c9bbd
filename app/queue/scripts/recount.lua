-- Tags of failed jobs that nobody has counted: what failed before they were counted, and what older
-- releases told nobody.
-- In a block of its own, as a script may have 200 names.
local recount
do
  -- That takes about 1 ms.
  local JOBS, PIECE = 200, 100

  -- How many it has counted. None where something is wrong: it is met again, and not at once, which
  -- would keep upkeep busy.
  local function recount_cause(fp)
    local jobs = failure_key(fp, ':jobs')
    local ok, facts = pcall(call, 'HMGET', failure_key(fp, ':tags'), 'jobs', 'upto')
    local counted, last = tonumber(ok and facts[1] or 0), tonumber(ok and facts[2] or 0)
    if not ok or counted ~= call('ZCOUNT', jobs, '-inf', last) then
      drop_tally(fp)
      return 0
    end
    if counted > 0 then keep_tally(fp) end
    local ids = call('ZRANGEBYSCORE', jobs, '(' .. last, '+inf', 'LIMIT', 0, PIECE)
    if #ids == 0 then return 0 end
    return tally_in(fp, ids, tonumber(call('ZSCORE', jobs, ids[#ids])), last) and #ids or 0
  end

  -- Of causes that the walk over all that have failed has met. True when it found something: there
  -- may be more.
  function recount()
    local left = JOBS
    for fp in pairs(met) do
      if left <= 0 or is_enough() then break end
      local ok, counted = pcall(recount_cause, fp)
      left = left - (ok and counted or 0)
    end
    return left < JOBS
  end
end
