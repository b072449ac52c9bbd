-- answer: what the first request with an idempotency key was answered, for who sends it again.
-- ARGV: prefix, idempotency id, fingerprint, answer
local key = OURS .. 'idempotency:' .. ARGV[2]
-- The first answer stands; a key that has run out meanwhile is not made anew.
if call('HGET', key, 'fingerprint') == ARGV[3] then call('HSETNX', key, 'answer', ARGV[4]) end
return 1
