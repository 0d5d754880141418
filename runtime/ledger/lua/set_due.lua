-- KEYS: volumes due runs
-- ARGV: volume project at
if not readVolume(KEYS[1], ARGV[1], ARGV[2]) or redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then return 0 end
redis.call('ZADD', KEYS[2], 'LT', ARGV[3], ARGV[1])
return 1
