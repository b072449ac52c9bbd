-- A job that tells of another's outcome, made in the same moment in which that is recorded: so
-- there is one for each outcome, whoever dies when. No budget holds it back.
-- `x_notify` is made by packing.py: `on`, and of the new job `id`'s place, `queue`, `type`, `by`,
-- `fields`, `call` up to where its params go on, `end` behind them, and `overhead`.
local function outcome_params(id, status)
  local found = call('HMGET', job_key(id), 'x_error', 'x_reason', 'x_artifacts')
  local text = ',"outcome":"' .. status .. '","ended_at":"' .. NOW_ISO .. '"'
  if status == 'finished' then return text .. ',"artifacts":' .. (found[3] or '[]') end
  local ok, problem = pcall(cjson.decode, found[1] or '')
  if status == 'failed' and ok and type(problem) == 'table' then
    text = text .. ',"error":' .. cjson.encode(tostring(problem.message))
  end
  return text .. ',"reason":' .. cjson.encode(found[2] or '')
end

local function make_notification(new, id, wish, data)
  call('HSET', job_key(new), 'data', data, 'created_at', NOW_ISO, 'x_size', #data + wish.overhead,
    'status', 'queued', 'enqueued_at', NOW_ISO, 'x_trail', append_trail(new, nil, 'queued'),
    'x_notifies', id, unpack(wish.fields))
  index_job(new, wish.by, wish.type, {})
  push(wish.queue, new)
end

local function notify(id, status, text)
  local wish = cjson.decode(text)
  local is_wanted = false
  for _, each in ipairs(wish.on) do is_wanted = is_wanted or each == status end
  if not is_wanted then return end
  local new = string.format('%013x', tonumber(NOW_US)) .. string.sub(redis.sha1hex(id .. NOW_US), 1, 22)
  local data = wish.call .. outcome_params(id, status) .. wish['end']
  if not pcall(make_notification, new, id, wish, data) then
    -- Whole or not at all: what is in no queue would wait for ever.
    pcall(unindex_job, new)
    return call('DEL', job_key(new))
  end
  redis.pcall('HINCRBY', OURS .. 'bytes', base_queue(wish.queue), #data + wish.overhead)
  call('HSET', job_key(id), 'x_notified', new)
  tally('submitted', wish.queue, wish.type)
end
