-- repair: ids that a reader found in an index where they do not belong, by the record as it
-- is now. ARGV: prefix, kind of index (all by type tag status error), its value, id …
local kind, value = ARGV[2], ARGV[3]
for i = 4, #ARGV do
  local id = ARGV[i]
  local record = call('TYPE', job_key(id)).ok == 'hash'
    and call('HMGET', job_key(id), 'status', 'x_error') or { false, false }
  if not record[1] then unindex_job(id)
  elseif kind == 'status' and record[1] ~= value then call('ZREM', INDEX .. 'status:' .. value, id)
  elseif kind == 'error' and error_code(record[2]) ~= value then
    call('ZREM', INDEX .. 'error:' .. value, id)
  end
end
return 1
