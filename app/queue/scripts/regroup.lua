-- What stock tools did to failed jobs, and told nobody, and what failed before there were groups.
local WALKED = 250
-- Causes of those that it came by.
local met = {}

local function regroup_job(id)
  if call('TYPE', job_key(id)).ok ~= 'hash' then return false end
  local job = call('HMGET', job_key(id), 'status', 'origin', 'x_error')
  if not job[1] then return false end
  if job[1] ~= 'failed' then return requeued(id) end
  local fp = noted(OURS .. 'errors', id).fingerprint
  if type(fp) ~= 'string' then return false end
  met[fp] = true
  if call('ZSCORE', failure_key(fp, ':jobs'), id) then return false end
  enter_group(id, job[2] or '', job[3])
  return true
end

-- A slow walk over all that have failed. True when it found something, and there is more.
local function regroup()
  local place, mended = OURS .. 'regroup_at', false
  local cursor = call('GET', place) or ''
  local from = cursor == '' and '-' or ('(' .. cursor)
  local entries = call('ZRANGEBYLEX', INDEX .. 'status:failed', from, '+', 'LIMIT', 0, WALKED)
  for _, entry in ipairs(entries) do
    local ok, changed = pcall(regroup_job, id_of(entry))
    mended = mended or (ok and changed)
  end
  if #entries == WALKED then call('SET', place, entries[WALKED])
  elseif cursor ~= '' then call('DEL', place) end
  return mended and #entries == WALKED
end
