-- Ends a watched run, whose volume has long gone on to other things.
-- KEYS, ARGV: as finish
local k = {finished = KEYS[6], stamping = KEYS[7], stamps = KEYS[8], discarding = KEYS[9], discards = KEYS[10],
  watching = KEYS[11], watched = KEYS[12], tracked = KEYS[3],
  records = KEYS[13], backups = KEYS[14], holding = KEYS[15], projects = KEYS[16],
  retention = KEYS[17]}
local volumes = KEYS[4]
local c = cjson.decode(ARGV[1])

if not unwatch(k.watching, k.watched, k.tracked, k.projects, c) then return 0 end
settle(k, c)
local v = readVolume(volumes, c.volume, c.project)
if v then
  local lastSlot, had, rest = splitState(v.state)
  local _, lastComplete = splitState(c.state)
  v.state = lastSlot .. ' ' .. max(lastComplete, had) .. ' ' .. rest
  writeVolume(volumes, c.volume, v)
end
return 1
