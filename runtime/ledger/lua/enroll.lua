-- Stores what a server and its volumes are now.
-- KEYS: ticket servers withdrawn volumes due runs projects ranks
-- ARGV: ticket server project now enrolment, then for each of its volumes:
--   volume, facts, '1' if the facts were read just now, rank ('' = not counted)
-- Returns {1} if stale, else {0, same, protected, unprotected}.
local servers, withdrawn, volumes, due, runs, projects, ranks =
  KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local ticket, server, project, now, enrolment = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local counter = redis.call('GET', KEYS[1]) or '0'

local before = readServer(servers, server)
local gone = redis.call('HGET', withdrawn, server)
if (before and stale(before.ticket, ticket, counter))
  or (gone and stale(string.match(gone, '^%S+'), ticket, counter)) then
  return {1}
end

local same, changed, had = 0, false, {}
if before then
  if before.json == enrolment then same = 1 end
  local old, new = cjson.decode(before.json), cjson.decode(enrolment)
  changed = old.w ~= new.w or old.c ~= new.c or old.s ~= new.s or old.r ~= new.r
  had = old.v or {}
end

local protected, unprotected, has = {}, {}, {}
for i = 6, #ARGV, 4 do
  local id, facts, known, rank = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  has[id] = true
  local look, new = false, false
  local v = readVolume(volumes, id)
  -- A volume that was transferred to this project starts over in it.
  if not v or v.project ~= project then
    v = {project = project, ticket = ticket, again = '0', servers = server, facts = facts, state = NOTHING}
    new = true
    table.insert(protected, id)
  else
    local joined = not string.find(',' .. v.servers .. ',', ',' .. server .. ',', 1, true)
    if joined then v.servers = v.servers .. ',' .. server end
    look = changed or joined
    if stale(v.ticket, ticket, counter) then
      rank = nil
    elseif known == '1' then
      local wasSkipped = (cjson.decode(v.facts).k or '') ~= ''
      local isSkipped = (cjson.decode(facts).k or '') ~= ''
      look = look or (wasSkipped and not isSkipped)
      v.facts, v.ticket = facts, ticket
    else
      rank = nil
    end
  end
  if look or new then
    local open = redis.call('HEXISTS', runs, id) == 1
    if not open then redis.call('ZADD', due, 'LT', now, id) end
    -- Nobody has read a volume that was not there.
    if open or not new then v.again = now end
  end
  writeVolume(volumes, id, v)
  if rank == '' then
    redis.call('ZREM', ranks, id)
  elseif rank then
    redis.call('ZADD', ranks, rank, id)
  end
end

for _, id in ipairs(had) do
  if not has[id] and leave(volumes, due, ranks, id, server, project) then
    table.insert(unprotected, id)
  end
end

if not before then
  hold(projects, project, 1)
elseif before.project ~= project then
  hold(projects, before.project, -1)
  hold(projects, project, 1)
end
writeServer(servers, server, {project = project, ticket = ticket,
  stamp = before and before.stamp or '0', json = enrolment})
redis.call('HDEL', withdrawn, server)
return {0, same, protected, unprotected}
