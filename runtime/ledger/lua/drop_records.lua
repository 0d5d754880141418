-- KEYS: records backups holding
-- ARGV: project, then backups
local records, backups, holding = KEYS[1], KEYS[2], KEYS[3]
for i = 2, #ARGV do
  local row = redis.call('HGET', records, ARGV[i])
  local volume, project
  if row then volume, project = string.match(row, '^(%S+) (%S+)') end
  if project == ARGV[1] then
    redis.call('HDEL', records, ARGV[i])
    -- A volume that was transferred can have backups in several projects.
    local left, holds = {}, false
    for id in string.gmatch(redis.call('HGET', backups, volume) or '', '%S+') do
      if id ~= ARGV[i] then
        table.insert(left, id)
        holds = holds or string.match(redis.call('HGET', records, id) or '', '^%S+ (%S+)') == project
      end
    end
    if #left > 0 then
      redis.call('HSET', backups, volume, table.concat(left, ' '))
    else
      redis.call('HDEL', backups, volume)
    end
    if not holds then redis.call('ZREM', holding, volume) end
  end
end
return 1
