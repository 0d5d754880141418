-- Writes the state of a volume that has no run open.
-- KEYS: volumes due runs
-- ARGV: volume project state due
local volumes, due, runs = KEYS[1], KEYS[2], KEYS[3]
local volume = ARGV[1]
local v = readVolume(volumes, volume, ARGV[2])
if not v or redis.call('HEXISTS', runs, volume) == 1 then return 0 end
setState(volumes, due, volume, v, ARGV[3], ARGV[4])
return 1
