-- Something was heard of a backup: look at its run sooner.
-- KEYS: tracked open watched
-- ARGV: backup at
local t = redis.call('HGET', KEYS[1], ARGV[1])
if not t then return 0 end
local where, what = string.match(t, '^(%S+) (.*)$')
local set = KEYS[2]
if where == 'watched' then set = KEYS[3] end
redis.call('ZADD', set, 'XX', 'LT', ARGV[2], what)
return 1
