-- KEYS: records backups holding projects retention
-- ARGV: project at, then record, again and again
for i = 3, #ARGV do
  putRecord(KEYS[1], KEYS[2], KEYS[3], KEYS[4], cjson.decode(ARGV[i]))
end
-- One that is looked at anyhow is left to its time.
redis.call('ZADD', KEYS[5], 'NX', ARGV[2], ARGV[1])
return 1
