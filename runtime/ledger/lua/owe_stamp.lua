-- Notes a last-backup-time that a server is owed; an older or equal one that waits
-- already makes room for a newer one only.
-- KEYS: stamping stamps projects
-- ARGV: server project stamp at
local server, project, stamp, at = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local old = redis.call('HGET', KEYS[1], server)
local had = old and string.match(old, '^%S+ (%S+)')
if old and tonumber(stamp) <= tonumber(had) then return 0 end
if not old then hold(KEYS[3], project, 1) end
redis.call('HSET', KEYS[1], server, project .. ' ' .. stamp .. ' 0')
redis.call('ZADD', KEYS[2], at, server)
return 1
