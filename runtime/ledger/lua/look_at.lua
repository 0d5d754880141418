-- KEYS: runs open
-- ARGV: volume run at
if not sameRun(readRun(KEYS[1], ARGV[1]), cjson.decode(ARGV[2])) then return 0 end
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
return 1
