-- Notes a broken backup that is to be removed; one noted already stays as it is.
-- KEYS: discarding discards projects
-- ARGV: backup project at
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2] .. ' 0') == 0 then return 0 end
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
hold(KEYS[3], ARGV[2], 1)
return 1
