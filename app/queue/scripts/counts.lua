-- What has happened since ever, by queue and type: one hash of `name|queue|type`. It grows in the
-- very call that moves a job, so it is as right as the records, whoever crashes. Names are events;
-- `wait:<bound>` and `run:<bound>` for how long jobs waited and runs took, in seconds up to and
-- with the bound; `wait_us` and `run_us` for the sums. Collected within a call, written once.
local COUNTS = OURS .. 'counts'
-- As in figures.py. Written out, as every call builds them anew.
local BOUNDS = { 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600 }
local WAIT = { sum = 'wait_us', 'wait:0.005', 'wait:0.025', 'wait:0.1', 'wait:0.25', 'wait:0.5', 'wait:1',
  'wait:2.5', 'wait:5', 'wait:10', 'wait:30', 'wait:60', 'wait:300', 'wait:900', 'wait:3600', 'wait:inf' }
local RUN = { sum = 'run_us', 'run:0.005', 'run:0.025', 'run:0.1', 'run:0.25', 'run:0.5', 'run:1',
  'run:2.5', 'run:5', 'run:10', 'run:30', 'run:60', 'run:300', 'run:900', 'run:3600', 'run:inf' }

local tallies, bases = {}, {}
local function sheet_of(q, type_name)
  local base = bases[q]
  if not base then
    base = base_queue(q)
    bases[q] = base
    tallies[base] = tallies[base] or {}
  end
  local by_type, name = tallies[base], type_name or 'other'
  local sheet = by_type[name]
  if not sheet then
    sheet = {}
    by_type[name] = sheet
  end
  return sheet
end

local function tally(event, q, type_name)
  local sheet = sheet_of(q, type_name)
  sheet[event] = (sheet[event] or 0) + 1
end

local function observe(names, q, type_name, seconds)
  local sheet, i = sheet_of(q, type_name), 1
  while BOUNDS[i] and seconds > BOUNDS[i] do i = i + 1 end
  sheet[names[i]] = (sheet[names[i]] or 0) + 1
  sheet[names.sum] = (sheet[names.sum] or 0) + math.max(0, seconds) * 1e6
end

-- Since when a queued job waits, in microseconds, by the newest line of its trail; nil where a
-- stock tool has queued it, without a word.
local ENTERS = { queued = true, retry_scheduled = true, interrupted = true, recovered = true }
local function waits_since(trail)
  if not trail then return nil end
  local us, event = string.match(trail, '^%[%d+,(%d+),"([a-z_]+)"[^\n]*$')
  if not us then us, event = string.match(trail, '.*\n%[%d+,(%d+),"([a-z_]+)"') end
  return event and ENTERS[event] and tonumber(us)
end

local function write_counts()
  local fields = {}
  for base, by_type in pairs(tallies) do
    for type_name, sheet in pairs(by_type) do
      for name, more in pairs(sheet) do
        fields[#fields + 1] = { name .. '|' .. base .. '|' .. type_name, more }
      end
    end
  end
  if #fields == 0 then return end
  tallies, bases = {}, {}
  local names = {}
  for i, field in ipairs(fields) do names[i] = field[1] end
  local before, grown = call('HMGET', COUNTS, unpack(names)), {}
  for i, field in ipairs(fields) do
    grown[2 * i - 1] = field[1]
    grown[2 * i] = string.format('%.0f', (tonumber(before[i] or '') or 0) + field[2])
  end
  call('HSET', COUNTS, unpack(grown))
end

-- Every script that moves jobs ends with this. A key that is something else costs the counts only.
local wake_workers = wake
local function wake()
  pcall(write_counts)
  wake_workers()
end
