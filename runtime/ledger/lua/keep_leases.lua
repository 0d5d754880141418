-- Exactly these runs hold a lease.
-- KEYS: leases holders
-- ARGV: run until holder, again and again
redis.call('DEL', KEYS[1], KEYS[2])
for i = 1, #ARGV, 3 do
  redis.call('ZADD', KEYS[1], ARGV[i + 1], ARGV[i])
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 2])
end
return 1
