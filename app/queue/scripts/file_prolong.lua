-- file_prolong: somebody still needs these files: from now on they are kept as long again.
-- ARGV: prefix, seconds, name …
-- Answer: how many of them there are.
local seconds, found = tonumber(ARGV[2]), 0
for i = 3, #ARGV do
  local name = ARGV[i]
  local record = call('HMGET', file_key(name), 'id', 'pieces')
  if record[1] then
    found = found + 1
    expire_pieces(record[1], tonumber(record[2]), seconds)
    call('EXPIRE', file_key(name), seconds)
    call('ZADD', HELD, NOW_S + seconds, record[1] .. ' ' .. name)
  end
end
return found
