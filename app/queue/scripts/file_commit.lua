-- file_commit: what has been written becomes the file of that name, in place of another.
-- ARGV: prefix, id, name, bytes, count of pieces, bytes of a whole piece, seconds that it is kept,
--   seconds for who still reads the file before it
-- Answer: 1, or 0 when a piece has gone already.
local id, name, count, seconds = ARGV[2], ARGV[3], tonumber(ARGV[5]), tonumber(ARGV[7])
if call('HGET', file_key(name), 'id') == id then return 1 end
if expire_pieces(id, count, seconds) < count then return 0 end
retire(name, tonumber(ARGV[8]))
call('HSET', file_key(name), 'id', id, 'size', ARGV[4], 'pieces', count, 'piece', ARGV[6],
  'at', NOW)
call('EXPIRE', file_key(name), seconds)
call('ZADD', NAMES, 0, name)
call('ZREM', HELD, id .. ' ')
call('ZADD', HELD, NOW_S + seconds, id .. ' ' .. name)
return 1
