-- A project that has nothing left is no longer listed, and what was planned for it
-- and remembered of it goes. Returns whether it is forgotten.
-- KEYS: projects holding finished removed cut cutremoved retention outlook removals reports
-- ARGV: project
local projects, retention, outlook, removals, reports = KEYS[1], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local project = ARGV[1]
if tonumber(redis.call('HGET', projects, project) or '0') > 0
  or redis.call('EXISTS', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]) > 0 then
  return 0
end
local doing = redis.call('HGET', removals, project)
if doing and cjson.decode(doing).r then return 0 end
-- Versions begin anew with the row: nobody is to save what was cut before that.
local report = readReport(reports, project)
if report.aside ~= '-' then return 0 end
-- The operator is to be told of its errors.
if cjson.decode(report.json).x then return 0 end
redis.call('HDEL', projects, project)
redis.call('ZREM', retention, project)
redis.call('HDEL', outlook, project)
redis.call('HDEL', removals, project)
redis.call('HDEL', reports, project)
return 1
