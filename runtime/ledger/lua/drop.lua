-- Forgets a backup of the project's; shared by drop_records and save_retention.
local function drop(records, backups, holding, project, id)
  local volume, of = string.match(redis.call('HGET', records, id) or '', '^(%S+) (%S+)')
  if of ~= project then return end
  redis.call('HDEL', records, id)
  -- A volume that was transferred can have backups in several projects.
  local left, holds = {}, false
  for other in string.gmatch(redis.call('HGET', backups, volume) or '', '%S+') do
    if other ~= id then
      table.insert(left, other)
      holds = holds or string.match(redis.call('HGET', records, other) or '', '^%S+ (%S+)') == project
    end
  end
  if #left > 0 then
    redis.call('HSET', backups, volume, table.concat(left, ' '))
  else
    redis.call('HDEL', backups, volume)
  end
  if not holds then redis.call('ZREM', holding, volume) end
end
