-- Cinder is under strain: one more halving, unless the last is forgotten.
-- KEYS: strain
-- ARGV: now, a minute, the most
local n = 0
local old = redis.call('GET', KEYS[1])
if old then
  local halvings, last = string.match(old, '^(%S+) (%S+)$')
  last = tonumber(last or '')
  if last and math.abs(tonumber(ARGV[1]) - last) < tonumber(ARGV[2]) then n = tonumber(halvings) or 0 end
end
n = math.min(math.max(n, 0) + 1, tonumber(ARGV[3]))
redis.call('SET', KEYS[1], string.format('%d', n) .. ' ' .. ARGV[1])
return n
