-- Cinder is under strain: one more halving, unless the last is forgotten.
-- KEYS: strain
-- ARGV: now, a minute, the most
local n = 0
local old = redis.call('GET', KEYS[1])
if old then
  local halvings, last = string.match(old, '^(%S+) (%S+)$')
  if math.abs(tonumber(ARGV[1]) - tonumber(last)) < tonumber(ARGV[2]) then n = tonumber(halvings) end
end
n = math.min(n + 1, tonumber(ARGV[3]))
redis.call('SET', KEYS[1], string.format('%d', n) .. ' ' .. ARGV[1])
return n
