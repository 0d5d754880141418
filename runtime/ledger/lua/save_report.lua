-- Writes what is remembered of a project's digests.
-- KEYS: reports cut cutremoved projects
-- ARGV: project version nonce pending told json; pending and told are '1' or '0'.
local reports, cut, cutremoved, projects = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local project, version, nonce, pending, told, json = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

local r = readReport(reports, project)
local after = string.format('%d', tonumber(version) + 1)
-- The same call again, because its first answer was lost on the way.
if r.version == after and r.nonce == nonce then return 1 end
if r.version ~= version then return 0 end
if r.absent and json == '{}' and told == '0' then return 1 end

if told == '1' then
  redis.call('DEL', cut, cutremoved)
  r.aside = '-'
end
if pending == '1' then
  r.aside = 'pending'
elseif r.aside == 'pending' then
  r.aside = 'cut' -- given up on: its rows are the next one's
end
r.version, r.nonce, r.json = after, nonce, json
writeReport(reports, projects, project, r)
return 1
