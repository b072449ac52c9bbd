-- select: how many of a cause's failed jobs fit, a piece at a time.
-- ARGV: prefix, fingerprint, filter JSON, behind which number, up to which, most to look at
-- Answer: {count, number of the last that was looked at, 1 when there are more, some ids …}
local fp, filter = ARGV[2], cjson.decode(ARGV[3])
local MOST_SAMPLES = 10
local found = members(fp, ARGV[4], ARGV[5], tonumber(ARGV[6]))
local answer = { 0, ARGV[4], #found == 2 * tonumber(ARGV[6]) and 1 or 0 }
for i = 1, #found, 2 do
  answer[2] = found[i + 1]
  if fits(found[i], filter) then
    answer[1] = answer[1] + 1
    if #answer < 3 + MOST_SAMPLES then answer[#answer + 1] = found[i] end
  end
end
return answer
