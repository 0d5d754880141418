-- The shard has been compared with the cloud. What was only to be remembered
-- for a day goes.
-- KEYS: reconciled withdrawn missing
-- ARGV: at, a day before
redis.call('SET', KEYS[1], ARGV[1])
for i = 2, 3 do
  local all = redis.call('HGETALL', KEYS[i])
  for j = 1, #all, 2 do
    local at = string.match(all[j + 1], '(%S+)$')
    if tonumber(at) < tonumber(ARGV[2]) then redis.call('HDEL', KEYS[i], all[j]) end
  end
end
return 1
