-- Lets a run start if there is room, and notes until when it counts.
-- KEYS: leases holders pause
-- ARGV: run project backend now until long-ago cloud project backend (limits)
-- Returns "" if admitted, else which limit is reached.
local leases, holders = KEYS[1], KEYS[2]
local run, project, backend, now, till = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local old = score(leases, run)
if not (old and old > tonumber(now)) then
  local pause = redis.call('GET', KEYS[3])
  if pause and (tonumber((string.match(pause, '^%S+'))) or 0) > tonumber(now) then return 'paused ' .. pause end

  local ids = redis.call('ZRANGEBYSCORE', leases, '(' .. now, '+inf')
  local ofProject, ofBackend = 0, 0
  for _, id in ipairs(ids) do
    local p, b = string.match(redis.call('HGET', holders, id) or '- -', '^(%S+) (%S+)$')
    if p == project then ofProject = ofProject + 1 end
    if b == backend and b ~= '-' then ofBackend = ofBackend + 1 end
  end
  for _, c in ipairs({{'cloud', #ids, ARGV[7]}, {'project', ofProject, ARGV[8]}, {'backend', ofBackend, ARGV[9]}}) do
    local limit = tonumber(c[3])
    if limit > 0 and c[2] >= limit then
      return c[1] .. ' limit: ' .. string.format('%d', c[2]) .. ' of ' .. c[3] .. ' running'
    end
  end
end

redis.call('ZADD', leases, till, run)
redis.call('HSET', holders, run, project .. ' ' .. backend)
-- Those that ended long ago go. Not sooner: another process's clock may be
-- behind, and for it they still count.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', ARGV[6])) do
  if id ~= run then
    redis.call('ZREM', leases, id)
    redis.call('HDEL', holders, id)
  end
end
return ''
