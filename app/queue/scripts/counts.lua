-- What has happened since ever, by queue and type: one hash of `name|queue|type`. It grows in the
-- very call that moves a job, so it is as right as the records, whoever crashes. Names are events;
-- `wait:<bound>` and `run:<bound>` for how long jobs waited and runs took, in seconds up to and
-- with the bound; `wait_us` and `run_us` for the sums. Collected within a call, written once.
local COUNTS = OURS .. 'counts'
local WAIT, RUN = 0, 100

-- In a block of its own, as a script may have 200 names.
local tally, observe, waits_since
do
  -- As in figures.py.
  local BOUNDS
  local tallies, last_q, last_type, last_sheet = {}, nil, nil, nil
  local function sheet_of(q, type_name)
    if q == last_q and type_name == last_type then return last_sheet end
    local base, name = base_queue(q), type_name or 'other'
    tallies[base] = tallies[base] or {}
    local sheet = tallies[base][name]
    if not sheet then
      sheet = {}
      tallies[base][name] = sheet
    end
    last_q, last_type, last_sheet = q, type_name, sheet
    return sheet
  end

  function tally(event, q, type_name)
    local sheet = sheet_of(q, type_name)
    sheet[event] = (sheet[event] or 0) + 1
  end

  -- By number until it is written: names of their own for each job would cost more than all else.
  function observe(what, q, type_name, seconds)
    BOUNDS = BOUNDS or { 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600 }
    local sheet, i = sheet_of(q, type_name), 1
    while BOUNDS[i] and seconds > BOUNDS[i] do i = i + 1 end
    sheet[what + i] = (sheet[what + i] or 0) + 1
    sheet[what] = (sheet[what] or 0) + math.max(0, seconds)
  end

  local function name_and_number(key, more)
    if type(key) == 'string' then return key, more end
    local what = key < RUN and 'wait' or 'run'
    if key == WAIT or key == RUN then return what .. '_us', math.floor(more * 1e6) end
    return what .. ':' .. (BOUNDS[key % RUN] or 'inf'), more
  end

  -- Since when a queued job waits, in microseconds, by the newest line of its trail; nil where a
  -- stock tool has queued it, without a word. Nearly all have just the line of their submission.
  local ENTERS = { queued = true, retry_scheduled = true, interrupted = true, recovered = true }
  function waits_since(trail)
    if not trail then return nil end
    if #trail == 29 and string.find(trail, ',"queued"]', 20, true) then
      return tonumber(string.sub(trail, 4, 19))
    end
    local us, event = string.match(trail, '^%[%d+,(%d+),"([a-z_]+)"[^\n]*$')
    if not us then us, event = string.match(trail, '.*\n%[%d+,(%d+),"([a-z_]+)"') end
    return event and ENTERS[event] and tonumber(us)
  end

  local function write_counts()
    local names, more = {}, {}
    for base, by_type in pairs(tallies) do
      for type_name, sheet in pairs(by_type) do
        local whose = '|' .. base .. '|' .. type_name
        for key, grown in pairs(sheet) do
          local name, number = name_and_number(key, grown)
          names[#names + 1] = name .. whose
          more[#names] = number
        end
      end
    end
    if #names == 0 then return end
    tallies, last_q, last_type, last_sheet = {}, nil, nil, nil
    local before, fields = call('HMGET', COUNTS, unpack(names)), {}
    for i, name in ipairs(names) do
      fields[2 * i - 1] = name
      fields[2 * i] = (tonumber(before[i] or '') or 0) + more[i]
    end
    call('HSET', COUNTS, unpack(fields))
  end

  -- Every script that moves jobs ends with this. A key that is something else costs the counts only.
  local wake_workers = wake
  function wake()
    pcall(write_counts)
    wake_workers()
  end
end
