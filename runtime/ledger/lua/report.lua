-- reports: PROJECT -> "VERSION.NONCE ASIDE\nJSON". ASIDE says what the lists aside
-- are: '-' there are none; 'cut', what the next digest is to be made of; 'again', the
-- same with what was added; 'pending', what the digest in JSON was made of.
-- Shared by cut_digest, save_report and forget_project.
local function readReport(reports, project)
  local row = redis.call('HGET', reports, project)
  if not row then return {version = '0', nonce = '', aside = '-', json = '{}', absent = true} end
  local version, nonce, aside = string.match(row, '^(%d+)%.?(%S*) (%S+)\n')
  return {version = version, nonce = nonce, aside = aside, json = string.sub(row, string.find(row, '\n', 1, true) + 1)}
end

local function writeReport(reports, projects, project, r)
  redis.call('HSET', reports, project, r.version .. '.' .. r.nonce .. ' ' .. r.aside .. '\n' .. r.json)
  hold(projects, project, 0)
end
