-- KEYS: volumes
-- ARGV: volume project last-slot last-complete
local v = readVolume(KEYS[1], ARGV[1], ARGV[2])
if not v then return 0 end
local lastSlot, lastComplete, rest = splitState(v.state)
v.state = max(ARGV[3], lastSlot) .. ' ' .. max(ARGV[4], lastComplete) .. ' ' .. rest
writeVolume(KEYS[1], ARGV[1], v)
return 1
