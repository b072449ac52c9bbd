-- repair: entries that a reader found in an index where they do not belong, by the record as it
-- is now. ARGV: prefix, kind of index (all by type tag status error fingerprint), its value,
-- entry …
local kind, value = ARGV[2], ARGV[3]
for i = 4, #ARGV do
  local entry, id = ARGV[i], id_of(ARGV[i])
  local record = call('TYPE', job_key(id)).ok == 'hash'
    and call('HMGET', job_key(id), 'status', 'x_error') or { false, false }
  local is_stale = kind == 'status' and record[1] ~= value
  if kind == 'error' or kind == 'fingerprint' then
    is_stale = record[1] == 'finished' or error_lists(record[2])[kind] ~= value
  end
  if not record[1] then
    unindex_job(id, entry)
    is_stale = value ~= ''
  end
  if is_stale then
    call('ZREM', INDEX .. kind .. ':' .. value, entry)
    -- Upkeep finds what stock tools took up by the list of what has failed, and a preview counts a
    -- cause by its list (select.lua): who leaves the lists leaves the group with them.
    if record[1] ~= 'failed' then requeued(id) end
    if kind == 'fingerprint' then leave_group(id, value) end
  end
end
return 1
