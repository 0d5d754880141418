-- Opens a run: by dispatch for a protected volume ('begin'), or by reconcile
-- for a backup found under way in Cinder, protected or not ('restore').
-- KEYS: volumes due runs open tracked watching discarding records backups holding projects
-- ARGV: how volume slot-µs look watch-name run record, the last two as JSON
local volumes, due, runs, open, tracked, watching, discarding, records, backups, holding, projects =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local how, volume, slot, look, name = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local run, json = cjson.decode(ARGV[6]), ARGV[7]

local old = readRun(runs, volume)
if old then
  -- The same call again, because its first answer was lost on the way.
  if old.nonce == run.nonce then return 1 end
  return 0
end
local v = readVolume(volumes, volume, run.project)
if how == 'begin' and not v then return 0 end
if v then
  -- A slot that is over stays over, whatever the asker had read before that. One
  -- that lies ahead even of the next look was planned by a clock that was wrong.
  local lastSlot, _, rest = splitState(v.state)
  if tonumber(slot) <= tonumber(lastSlot) and tonumber(lastSlot) <= tonumber(look) then return 0 end
  local retry = string.match(rest, '^%S+')
  if retry == slot and tonumber(run.attempt) < 2 then return 0 end
end
if how == 'restore' then
  if redis.call('HEXISTS', watching, name) == 1 then return 0 end
  if run.backup ~= '-' and (redis.call('HEXISTS', tracked, run.backup) == 1
    or redis.call('HEXISTS', discarding, run.backup) == 1) then
    return 0
  end
end

redis.call('ZREM', due, volume)
redis.call('ZADD', open, look, volume)
writeRun(runs, volume, run, json)
hold(projects, run.project, 1)
if run.backup ~= '-' then
  redis.call('HSET', tracked, run.backup, 'open ' .. volume)
  putRecord(records, backups, holding, projects, cjson.decode(ARGV[8]))
end
return 1
