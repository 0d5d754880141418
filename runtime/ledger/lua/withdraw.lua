-- A server has opted out or is gone.
-- KEYS: ticket servers withdrawn volumes due projects ranks
-- ARGV: ticket server project now
-- Returns as enroll does.
local servers, withdrawn, volumes, due, projects, ranks =
  KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local ticket, server, project, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local counter = redis.call('GET', KEYS[1]) or '0'

local before = readServer(servers, server)
local gone = redis.call('HGET', withdrawn, server)
if (before and stale(before.ticket, ticket, counter))
  or (gone and stale(string.match(gone, '^%S+'), ticket, counter)) then
  return {1}
end

-- What is remembered of it keeps an older enrolment from coming after this.
redis.call('HSET', withdrawn, server, ticket .. ' ' .. now)
if not before then return {0, 1, {}, {}} end

local unprotected = {}
for _, id in ipairs(cjson.decode(before.json).v or {}) do
  if leave(volumes, due, ranks, id, server, project) then table.insert(unprotected, id) end
end
redis.call('HDEL', servers, server)
hold(projects, before.project, -1)
return {0, 0, {}, unprotected}
