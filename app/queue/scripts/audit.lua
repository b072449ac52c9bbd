-- Who did what: written by the script that does it, so that neither is there without the other.
-- Redis bounds it by count here, upkeep by age.
local AUDIT_ENTRIES, AUDIT_SECONDS = 100000, 90 * 86400
local AUDIT = OURS .. 'audit'

-- `detail` is a table of facts: no bodies, no secrets.
local function audit(by, action, target, detail)
  call('XADD', AUDIT, 'MAXLEN', '~', AUDIT_ENTRIES, '*', 'key', by, 'action', action,
    'target', target, 'detail', detail and cjson.encode(detail) or '{}')
end

local function trim_audit()
  call('XTRIM', AUDIT, 'MINID', '~', string.format('%.0f', NOW_MS - AUDIT_SECONDS * 1000))
end
