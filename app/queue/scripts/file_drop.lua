-- file_drop: files go, or what was written of one.
-- ARGV: prefix, id of a draft or '', count of its pieces, seconds for who still reads, name …
-- Answer: how many had expired by themselves.
if ARGV[2] ~= '' then
  remove_pieces(ARGV[2], tonumber(ARGV[3]))
  call('ZREM', HELD, ARGV[2] .. ' ')
end
for i = 5, #ARGV do retire(ARGV[i], tonumber(ARGV[4])) end
return forget_expired()
