-- A project that has nothing left is no longer listed.
-- KEYS: projects holding finished
-- ARGV: project
if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') > 0
  or redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
