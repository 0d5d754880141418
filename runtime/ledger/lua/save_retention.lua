-- A project's removals were looked at.
-- KEYS: retention outlook removals records backups holding removed projects
-- ARGV: project version nonce due next looked row removals keep, then of each backup
--   that is gone: its id and the removal. removals is '' if it says nothing.
local retention, outlook, removals, records, backups, holding, removed, projects =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local project, version, nonce, due, next, looked, row, doing, keep =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]

-- VERSION.NONCE, or VERSION alone where the operator was the last.
local had, by = string.match(redis.call('HGET', outlook, project) or '0', '^(%d+)%.?(%S*)')
local after = string.format('%d', tonumber(version) + 1)
-- The same call again, because its first answer was lost on the way.
if had == after and by == nonce then return 1 end
if had ~= version then return 0 end

redis.call('HSET', outlook, project, after .. '.' .. nonce .. ' ' .. row)
hold(projects, project, 0)
if doing == '' then
  redis.call('HDEL', removals, project)
else
  redis.call('HSET', removals, project, doing)
end

for i = 10, #ARGV, 2 do
  drop(records, backups, holding, project, ARGV[i])
  redis.call('RPUSH', removed, ARGV[i + 1])
end
if #ARGV > 9 then redis.call('LTRIM', removed, keep, '-1') end

local at, now = next, score(retention, project)
if now and now ~= tonumber(due) then
  -- Something made it due since the look began: that one did not see it.
  at = looked
  if now > tonumber(looked) then at = redis.call('ZSCORE', retention, project) end
  if next ~= '0' and tonumber(next) < at + 0 then at = next end
end
if at == '0' then
  redis.call('ZREM', retention, project)
else
  redis.call('ZADD', retention, at, project)
end
return 1
