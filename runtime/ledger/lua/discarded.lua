-- A broken backup was removed, or refused.
-- KEYS: discarding discards projects
-- ARGV: backup again ('0' = removed)
local row = redis.call('HGET', KEYS[1], ARGV[1])
if not row then return 0 end
local project, tries = string.match(row, '^(%S+) (%S+)$')
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
  hold(KEYS[3], project, -1)
else
  redis.call('HSET', KEYS[1], ARGV[1], project .. ' ' .. string.format('%d', tonumber(tries) + 1))
  redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
end
return 1
