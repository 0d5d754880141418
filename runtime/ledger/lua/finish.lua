-- Ends an open run.
-- KEYS: runs open tracked volumes due finished stamping stamps discarding discards
--   watching watched records backups holding projects retention
-- ARGV: closing
local k = {finished = KEYS[6], stamping = KEYS[7], stamps = KEYS[8], discarding = KEYS[9], discards = KEYS[10],
  watching = KEYS[11], watched = KEYS[12], tracked = KEYS[3],
  records = KEYS[13], backups = KEYS[14], holding = KEYS[15], projects = KEYS[16],
  retention = KEYS[17]}
local runs, open, volumes, due = KEYS[1], KEYS[2], KEYS[4], KEYS[5]
local c = cjson.decode(ARGV[1])

local run = readRun(runs, c.volume)
if not sameRun(run, c) then return 0 end
redis.call('HDEL', runs, c.volume)
redis.call('ZREM', open, c.volume)
hold(k.projects, c.project, -1)
untrack(k.tracked, run.backup, 'open ' .. c.volume)

settle(k, c)
local v = readVolume(volumes, c.volume, c.project)
if v then setState(volumes, due, c.volume, v, c.state, c.due) end
return 1
