-- What the end of a run leaves behind besides the volume's state; shared by
-- finish and finish_late, which put the keys into k.
local function settle(k, c)
  if c.final then
    redis.call('RPUSH', k.finished, c.json)
    redis.call('LTRIM', k.finished, c.keep, '-1')
    hold(k.projects, c.project, 0)
  end

  -- stamping: SERVER -> "PROJECT AT TRIES"
  if c.stamp then
    for _, server in ipairs(c.servers) do
      local old = redis.call('HGET', k.stamping, server)
      local at = old and string.match(old, '^%S+ (%S+)')
      if not old or tonumber(c.stamp) > tonumber(at) then
        if not old then hold(k.projects, c.project, 1) end
        redis.call('HSET', k.stamping, server, c.project .. ' ' .. c.stamp .. ' 0')
        redis.call('ZADD', k.stamps, c.ended, server)
      end
    end
  end

  -- discarding: BACKUP -> "PROJECT TRIES"
  if c.backup ~= '-' then
    if c.remove then
      if redis.call('HSETNX', k.discarding, c.backup, c.project .. ' 0') == 1 then
        hold(k.projects, c.project, 1)
        redis.call('ZADD', k.discards, c.ended, c.backup)
      end
    elseif c.complete and redis.call('HDEL', k.discarding, c.backup) == 1 then
      -- A restore point after all: nobody may remove it as broken.
      redis.call('ZREM', k.discards, c.backup)
      hold(k.projects, c.project, -1)
    end
  end

  if c.watch then
    watch(k.watching, k.watched, k.tracked, k.projects, c.watch)
  end
  if c.record then
    putRecord(k.records, k.backups, k.holding, k.projects, c.record)
  end
  retain(k.retention, c.project, c.now)
end
