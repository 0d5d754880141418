-- Records of one volume.
-- KEYS: records backups holding
-- ARGV: volume, then backups
local volume = ARGV[1]
for i = 2, #ARGV do
  local row = redis.call('HGET', KEYS[1], ARGV[i])
  if row and string.match(row, '^%S+') == volume then redis.call('HDEL', KEYS[1], ARGV[i]) end
  redis.call('ZREM', KEYS[2], ARGV[i])
end
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('ZREM', KEYS[3], volume) end
return 1
