-- Posts one and the same e-mail; arguments: the file of the body, the API key.
-- Ends with one line of JSON, which load.py reads; latencies in microseconds.
function init(args)
  local file = assert(io.open(args[1], 'rb'))
  wrk.body = file:read('*a')
  file:close()
  wrk.method = 'POST'
  wrk.headers['Content-Type'] = 'application/json'
  wrk.headers['Authorization'] = 'Bearer ' .. args[2]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
