-- Writes a volume's state and when it is due next; shared by postpone and
-- finish. The restore point only ever rises: a late run may have raised it
-- after the writer had read it. If an enrolment changed since dispatch was
-- handed the volume, it is due at the time of that change, no later.
local function setState(volumes, due, volume, v, state, at)
  local _, had = splitState(v.state)
  local lastSlot, lastComplete, rest = splitState(state)
  v.state = lastSlot .. ' ' .. max(lastComplete, had) .. ' ' .. rest
  writeVolume(volumes, volume, v)
  if v.again ~= '0' and (at == '0' or tonumber(v.again) < tonumber(at)) then at = v.again end
  if at == '0' then
    redis.call('ZREM', due, volume)
  else
    redis.call('ZADD', due, at, volume)
  end
end
