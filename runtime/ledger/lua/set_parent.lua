-- KEYS: records
-- ARGV: backup parent project
local row = redis.call('HGET', KEYS[1], ARGV[1])
if not row then return 0 end
local volume, project, rest = string.match(row, '^(%S+) (%S+) %S+ (.*)$')
if project ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], volume .. ' ' .. project .. ' ' .. ARGV[2] .. ' ' .. rest)
return 1
