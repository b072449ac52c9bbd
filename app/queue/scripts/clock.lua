-- Shared by every script: the clock and the names of keys.
-- ARGV[1] is the key prefix. Effects only are replicated, so the server's clock is safe to use.
local P = ARGV[1]
local OURS = P .. ':recado:'
local clock = redis.call('TIME')
local NOW_MS = clock[1] * 1000 + math.floor(clock[2] / 1000)
local NOW = string.format('%d.%06d', clock[1], clock[2])
local NOW_S = tonumber(NOW)
-- As text: a reply, and cjson, would round a number of this size.
local NOW_US = string.format('%d%06d', clock[1], clock[2])
-- How many commands so far: who has much to do stops when it is enough for one call.
local spent = 0
local function call(...)
  spent = spent + 1
  return redis.call(...)
end
local function has(key) return redis.call('EXISTS', key) == 1 end

-- RQ's time format, %Y-%m-%dT%H:%M:%S.%fZ; Lua in the server has no os.date.
-- Days to civil date after Howard Hinnant, chrono-compatible low-level date algorithms.
local function iso(seconds, micros)
  local days = math.floor(seconds / 86400)
  local rest = seconds - days * 86400
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month,
    doy - math.floor((153 * mp + 2) / 5) + 1, math.floor(rest / 3600),
    math.floor(rest / 60) % 60, rest % 60, micros)
end
local NOW_ISO = iso(tonumber(clock[1]), tonumber(clock[2]))

local function job_key(id) return P .. ':job:' .. id end
local function queue_key(q) return P .. ':queue:' .. q end
