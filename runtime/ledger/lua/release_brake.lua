-- The operator lifts the brake on a project. The version goes up: a look that did
-- not know of it yet is not to overwrite it.
-- KEYS: outlook projects
-- ARGV: project until most
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 0 end
-- VERSION.NONCE LOOKED BACKUPS CHAINS REMOVALS LOSSES RELEASED MOST
local f = {}
for word in string.gmatch(redis.call('HGET', KEYS[1], ARGV[1]) or '0', '%S+') do table.insert(f, word) end
while #f < 8 do table.insert(f, '0') end
f[1], f[7], f[8] = string.format('%d', string.match(f[1], '^%d+') + 1), ARGV[2], ARGV[3]
while #f > 1 and f[#f] == '0' do table.remove(f) end
redis.call('HSET', KEYS[1], ARGV[1], table.concat(f, ' '))
return 1
