-- A last-backup-time was written, or refused.
-- KEYS: stamping stamps servers projects
-- ARGV: server at again ('0' = written)
local stamping, stamps, servers, projects = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local server, at, again = ARGV[1], ARGV[2], ARGV[3]
local row = redis.call('HGET', stamping, server)
local project, stored, tries
if row then project, stored, tries = string.match(row, '^(%S+) (%S+) (%S+)$') end

if again == '0' then
  local s = readServer(servers, server)
  if s then
    s.stamp = max(at, s.stamp)
    writeServer(servers, server, s)
  end
  if row and tonumber(stored) <= tonumber(at) then
    redis.call('HDEL', stamping, server)
    redis.call('ZREM', stamps, server)
    hold(projects, project, -1)
  end
elseif row and stored == at then
  redis.call('HSET', stamping, server, project .. ' ' .. stored .. ' ' .. string.format('%d', tonumber(tries) + 1))
  redis.call('ZADD', stamps, again, server)
end
return 1
