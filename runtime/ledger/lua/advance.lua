-- An open run has come further.
-- KEYS: runs open tracked records backups holding projects
-- ARGV: volume look run, json, record
local runs, open, tracked, records, backups, holding, projects =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local volume, look, run, json = ARGV[1], ARGV[2], cjson.decode(ARGV[3]), ARGV[4]
local old = readRun(runs, volume)
if not sameRun(old, run) then return 0 end
run.nonce = old.nonce
if old.backup ~= run.backup then untrack(tracked, old.backup, 'open ' .. volume) end
writeRun(runs, volume, run, json)
redis.call('ZADD', open, look, volume)
if run.backup ~= '-' then
  redis.call('HSET', tracked, run.backup, 'open ' .. volume)
  putRecord(records, backups, holding, projects, cjson.decode(ARGV[5]))
end
return 1
