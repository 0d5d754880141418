-- Puts aside what no digest has told of, unless a digest is on its way. From the
-- answer until the version goes up, what is aside stays as it is, also where it is
-- nothing: what is saved by this version was made of all of it.
-- KEYS: reports finished removed cut cutremoved projects
-- ARGV: project, how many runs and how many removals are kept
-- Returns the runs and the removals that are aside.
local reports, finished, removed, cut, cutremoved, projects = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local project = ARGV[1]

local function move(from, to, keep)
  if redis.call('EXISTS', from) == 0 then return end
  if redis.call('EXISTS', to) == 0 then
    redis.call('RENAME', from, to)
    return
  end
  for _, row in ipairs(redis.call('LRANGE', from, '0', '-1')) do redis.call('RPUSH', to, row) end
  redis.call('LTRIM', to, keep, '-1')
  redis.call('DEL', from)
end

local r = readReport(reports, project)
local more = redis.call('EXISTS', finished, removed) > 0
if r.aside == '-' or r.aside == 'cut' and more then
  move(finished, cut, ARGV[2])
  move(removed, cutremoved, ARGV[3])
  if r.aside == '-' then
    r.aside = 'cut'
  else
    -- Somebody cut and did not come to save, or may yet: it is not to be saved by
    -- what that one has seen. Once only, or there might never be a digest.
    r.aside, r.nonce = 'again', ''
    r.version = string.format('%d', tonumber(r.version) + 1)
  end
  writeReport(reports, projects, project, r)
end
return {redis.call('LRANGE', cut, '0', '-1'), redis.call('LRANGE', cutremoved, '0', '-1')}
