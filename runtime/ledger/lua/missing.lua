-- Something was asked for directly and is not there.
-- KEYS: missing
-- ARGV: what now a-day
local times = 0
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old then
  local n, at = string.match(old, '^(%S+) (%S+)$')
  -- The same moment is the same look, asked about again.
  if at == ARGV[2] then return tonumber(n) end
  if math.abs(tonumber(ARGV[2]) - tonumber(at)) <= tonumber(ARGV[3]) then times = tonumber(n) end
end
times = times + 1
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', times) .. ' ' .. ARGV[2])
return times
