-- What the scripts share; it is put in front of each of them.
--
-- Times are microseconds since 1970 as decimal digits, '0' for none. They are
-- compared as numbers and only ever stored as the strings they came as: Lua
-- prints a number of this size without its last digits.

local NOTHING = '0 0 0 0 0 0 ' -- the state of a volume before its first run

local function max(a, b)
  if tonumber(a) > tonumber(b) then return a end
  return b
end

-- A score as a number: the Lua of the embedded Redis understands '1e+15' in sums only.
local function score(set, member)
  local s = redis.call('ZSCORE', set, member)
  return s and s + 0
end

-- A newer ticket is on the row, and it is of this Redis: one above the counter
-- was given out before the counter was lost, and must not refuse for ever.
local function stale(stored, given, counter)
  stored = tonumber(stored)
  return stored > tonumber(given) and stored <= tonumber(counter)
end

-- Counts the servers, runs, stamps and discards that a project has in the shard.
local function hold(projects, project, by)
  redis.call('HINCRBY', projects, project, by)
end

-- servers: SERVER -> "PROJECT TICKET STAMP\nENROLMENT"
-- A malformed row is treated as missing here, so that the next enrolment writes it anew.
-- Readers in Go report it.
local function readServer(servers, id)
  local s = redis.call('HGET', servers, id)
  if not s then return nil end
  local project, ticket, stamp, json = string.match(s, '^(%S+) (%-?%d+) (%d+)\n(.*)$')
  if not project then return nil end
  return {project = project, ticket = ticket, stamp = stamp, json = json}
end

local function writeServer(servers, id, s)
  redis.call('HSET', servers, id, s.project .. ' ' .. s.ticket .. ' ' .. s.stamp .. '\n' .. s.json)
end

-- volumes: VOLUME -> "PROJECT TICKET AGAIN SERVER,SERVER\nFACTS\nSTATE"
-- AGAIN is when an enrolment last wanted the volume looked at anew; it is '0'
-- once dispatch has been handed the volume since. A malformed row is treated as missing,
-- like a server's.
local function readVolume(volumes, id, project)
  local s = redis.call('HGET', volumes, id)
  if not s then return nil end
  local p, ticket, again, servers, facts, state =
    string.match(s, '^(%S+) (%-?%d+) (%d+) (%S*)\n([^\n]*)\n(.*)$')
  if not p or project and p ~= project then return nil end
  if state == '' then state = NOTHING end
  return {project = p, ticket = ticket, again = again, servers = servers, facts = facts, state = state}
end

local function writeVolume(volumes, id, v)
  local state = v.state
  if state == NOTHING then state = '' end
  redis.call('HSET', volumes, id, v.project .. ' ' .. v.ticket .. ' ' .. v.again .. ' ' ..
    v.servers .. '\n' .. v.facts .. '\n' .. state)
end

-- A state is "LASTSLOT LASTCOMPLETE REST". A malformed one is treated as empty, because a
-- script that failed here would have done half of its work.
local function splitState(state)
  if not string.match(state, '^%d+ %d+ ') then state = NOTHING end
  return string.match(state, '^(%d+) (%d+) (.*)$')
end

-- runs: VOLUME -> "PROJECT SLOT ATTEMPT BACKUP NONCE\nRUN"
local function readRun(runs, volume)
  local s = redis.call('HGET', runs, volume)
  if not s then return nil end
  local project, slot, attempt, backup, nonce = string.match(s, '^(%S+) (%S+) (%S+) (%S+) (%S+)\n')
  return {project = project, slot = slot, attempt = attempt, backup = backup, nonce = nonce}
end

local function writeRun(runs, volume, r, json)
  redis.call('HSET', runs, volume, r.project .. ' ' .. r.slot .. ' ' .. r.attempt .. ' ' ..
    r.backup .. ' ' .. r.nonce .. '\n' .. json)
end

local function sameRun(a, b)
  return a and a.project == b.project and a.slot == b.slot and a.attempt == b.attempt
end

-- records: BACKUP -> "VOLUME PROJECT PARENT SLOT KIND STATUS CREATED SIZE PROOF\nPOLICY".
-- What is not known now does not erase what was known: the API tells no parent, a
-- notification did. Nor does a run ('r') replace the proof that is there. r.fresh says
-- to leave a record alone that is there and has a proof.
local function putRecord(records, backups, holding, projects, r)
  local old = redis.call('HGET', records, r.id)
  local parent, policy, proof = r.parent, r.policy, r.proof
  if old then
    local oldParent, oldProof, oldPolicy = string.match(old, '^%S+ %S+ (%S+) %S+ %S+ %S+ %S+ %S+ ?(%S*)\n(.*)$')
    if r.fresh and oldProof and oldProof ~= '' then return end
    if parent == '-' then parent = oldParent or '-' end
    if policy == '' then policy = oldPolicy or '' end
    if oldProof and oldProof ~= '' and (proof == '' or proof == 'r') then proof = oldProof end
  end
  if proof ~= '' then proof = ' ' .. proof end
  redis.call('HSET', records, r.id, r.volume .. ' ' .. r.project .. ' ' .. parent .. ' ' .. r.facts .. proof .. '\n' .. policy)
  -- backups: VOLUME -> "BACKUP BACKUP"
  local ids = redis.call('HGET', backups, r.volume)
  if not ids then
    redis.call('HSET', backups, r.volume, r.id)
  elseif not string.find(' ' .. ids .. ' ', ' ' .. r.id .. ' ', 1, true) then
    redis.call('HSET', backups, r.volume, ids .. ' ' .. r.id)
  end
  redis.call('ZADD', holding, '0', r.volume)
  hold(projects, r.project, 0)
end

-- retention: PROJECT -> when its removals are to be looked at. One that is due
-- already moves by a microsecond: whoever is just looking at it sees by that, when
-- writing, that something has happened since.
local function retain(retention, project, at)
  local had = score(retention, project)
  if had and had <= tonumber(at) then
    redis.call('ZINCRBY', retention, '-1', project)
  else
    redis.call('ZADD', retention, at, project)
  end
end

-- tracked: BACKUP -> where its run is, 'open VOLUME' or 'watched RUN#ATTEMPT'.
-- Whoever tracked it last has it.
local function untrack(tracked, backup, where)
  if redis.call('HGET', tracked, backup) == where then redis.call('HDEL', tracked, backup) end
end

-- watching: RUN#ATTEMPT -> RUN
local function watch(watching, watched, tracked, projects, w)
  local old = redis.call('HGET', watching, w.name)
  if not old then
    hold(projects, w.project, 1)
  else
    untrack(tracked, cjson.decode(old).b or '-', 'watched ' .. w.name)
  end
  redis.call('HSET', watching, w.name, w.json)
  redis.call('ZADD', watched, w.at, w.name)
  if w.backup ~= '-' then redis.call('HSET', tracked, w.backup, 'watched ' .. w.name) end
end

-- The run's own row says which backup was tracked for it; the asker may know of
-- none, or of another.
local function unwatch(watching, watched, tracked, projects, w)
  local old = redis.call('HGET', watching, w.name)
  if not old then return false end
  redis.call('HDEL', watching, w.name)
  redis.call('ZREM', watched, w.name)
  hold(projects, w.project, -1)
  untrack(tracked, cjson.decode(old).b or '-', 'watched ' .. w.name)
  return true
end
