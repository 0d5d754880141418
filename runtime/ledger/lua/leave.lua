-- A volume loses a server; the last one takes its protection along, and its row
-- goes at once, also while a run of it is open: the run needs none to end.
-- Shared by enroll and withdraw. Returns whether the volume is unprotected now.
local function leave(volumes, due, ranks, id, server, project)
  local v = readVolume(volumes, id, project)
  if not v then
    redis.call('ZREM', ranks, id)
    return false
  end
  local left = {}
  for s in string.gmatch(v.servers, '[^,]+') do
    if s ~= server then table.insert(left, s) end
  end
  if #left > 0 then
    v.servers = table.concat(left, ',')
    writeVolume(volumes, id, v)
    return false
  end
  redis.call('HDEL', volumes, id)
  redis.call('ZREM', due, id)
  redis.call('ZREM', ranks, id)
  return true
end
