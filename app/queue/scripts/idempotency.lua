-- Idempotency keys: a client's name for a request, with what became of the first such request.
local IDEMPOTENCY_SECONDS = 86400

local function idempotency_key(id) return OURS .. 'idempotency:' .. id end

local function use_key(id, fingerprint, first, request, status, pending)
  if id == '' then return end
  local key = idempotency_key(id)
  call('HSET', key, 'fingerprint', fingerprint, 'id', first, 'us', NOW_US, 'request', request,
    'status', status)
  if pending then call('HSET', key, 'pending', 1) end
  call('EXPIRE', key, IDEMPOTENCY_SECONDS)
end
