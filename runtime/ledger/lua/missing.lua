-- Something was asked for directly and is not there.
-- KEYS: missing
-- ARGV: what now a-day
local times = 0
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old then
  local n, at = string.match(old, '^(%S+) (%S+)$')
  n, at = tonumber(n or ''), tonumber(at or '')
  if n and at then
    -- The same moment is the same look, asked about again.
    if at == tonumber(ARGV[2]) then return n end
    if math.abs(tonumber(ARGV[2]) - at) <= tonumber(ARGV[3]) then times = n end
  end
end
times = times + 1
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', times) .. ' ' .. ARGV[2])
return times
