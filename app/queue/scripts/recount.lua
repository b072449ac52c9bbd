-- Tags of failed jobs that nobody has counted: what failed before they were counted, and what older
-- releases told nobody.
local RECOUNT_AT = OURS .. 'recount_at'
-- In a block of its own, as a script may have 200 names.
local recount
do
  -- So many jobs a call take about 1 ms. Nobody waits for it: it goes on after a while, and hurries
  -- no other duty.
  local JOBS, PIECE, RECOUNT_MS, MOST_CAUSES = 200, 100, 1000, 500

  -- How many it has counted. None where something is wrong: it is met again, and not soon, which
  -- would keep it busy.
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

  -- Causes that were left, and then those that the walk over all that have failed has met now.
  local function causes_of(note)
    local causes = {}
    for fp in string.gmatch(note or '', '[:,](%x+)') do
      causes[#causes + 1], met[fp] = fp, nil
    end
    for fp in pairs(met) do
      if #causes < MOST_CAUSES then causes[#causes + 1] = fp end
    end
    return causes
  end

  -- A piece of each in turn. `note` is when it is to go on, and with which: one caller at a time.
  function recount(note, interval)
    local left, again, room = {}, {}, JOBS
    for _, fp in ipairs(causes_of(note)) do
      if room <= 0 or is_enough() then left[#left + 1] = fp
      else
        local ok, counted = pcall(recount_cause, fp)
        room = room - (ok and counted or 0)
        if ok and counted == PIECE then again[#again + 1] = fp end
      end
    end
    for _, fp in ipairs(again) do left[#left + 1] = fp end
    if #left > 0 then
      local text = string.format('%.0f:%s', NOW_MS + RECOUNT_MS, table.concat(left, ','))
      call('SET', RECOUNT_AT, text, 'PX', 2 * interval)
    elseif note then call('DEL', RECOUNT_AT) end
  end
end
