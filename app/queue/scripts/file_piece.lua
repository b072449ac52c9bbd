-- file_piece: another piece of a file that is being written, if there is room for it.
-- ARGV: prefix, id, number from 1, the file's bytes with this piece, most bytes of all files,
--   seconds until a writer that is not heard of is forgotten, the piece
-- Answer: 1, or 0 when there is no room.
local id, number, bytes, seconds = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[6]
forget_expired()
local before = tonumber(call('HGET', SIZES, id) or '') or 0
local total = tonumber(call('GET', TOTAL) or '') or 0
if total - before + bytes > tonumber(ARGV[5]) then return 0 end
call('SET', piece_key(id, number), ARGV[7], 'EX', seconds)
expire_pieces(id, number - 1, seconds)
call('ZADD', HELD, NOW_S + tonumber(seconds), id .. ' ')
weigh(id, bytes)
return 1
