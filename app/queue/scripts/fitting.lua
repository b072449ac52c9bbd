-- fitting: which of these jobs have failed and fit, by their records; 200 of them take 3 ms.
-- ARGV: prefix, filter JSON, id …
-- Answer: their ids
local filter, found = cjson.decode(ARGV[2]), {}
for i = 3, #ARGV do
  if fits(ARGV[i], filter) then found[#found + 1] = ARGV[i] end
end
return found
