-- Hands out the volumes whose time has come, oldest first, each with its row and
-- its servers' rows. A volume without a row is dropped from due; that an
-- enrolment wanted it looked at is met by this.
-- KEYS: due volumes servers
-- ARGV: now max
local due, volumes, servers = KEYS[1], KEYS[2], KEYS[3]
local out, want = {}, tonumber(ARGV[2])
while #out < want do
  local page = redis.call('ZRANGEBYSCORE', due, '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', tostring(#out), tostring(want - #out))
  if #page == 0 then break end
  for i = 1, #page, 2 do
    local id = page[i]
    local v = readVolume(volumes, id)
    if not v and redis.call('HEXISTS', volumes, id) == 0 then
      redis.call('ZREM', due, id)
    elseif not v then -- not a row: handed out as it is, for somebody to say so
      table.insert(out, {id, page[i + 1], redis.call('HGET', volumes, id), {}})
    else
      if v.again ~= '0' then
        v.again = '0'
        writeVolume(volumes, id, v)
      end
      local rows = {}
      for s in string.gmatch(v.servers, '[^,]+') do
        local row = redis.call('HGET', servers, s)
        if row then
          table.insert(rows, s)
          table.insert(rows, row)
        end
      end
      table.insert(out, {id, page[i + 1], redis.call('HGET', volumes, id), rows})
    end
  end
end
return out
