-- A submitter numbers its calls: one that comes again, as its reply was lost, gets the same
-- answer, whatever became of the jobs since (one with retention 0 may be done and gone).
local submitter, seq = ARGV[2], tonumber(ARGV[3])
local seen_key = OURS .. 'submitter:' .. submitter

local function answered_before()
  local seen = call('GET', seen_key)
  local answer = seen and cjson.decode(seen)
  return answer and answer[1] >= seq and { answer[2], answer[3] }
end

-- `answers` as a number: so many jobs, all of them queued.
local function answer_once(answers)
  call('SET', seen_key, cjson.encode({ seq, NOW_US, answers }), 'EX', 300)
  return { NOW_US, answers }
end
