-- KEYS: watching watched tracked projects
-- ARGV: watch
if unwatch(KEYS[1], KEYS[2], KEYS[3], KEYS[4], cjson.decode(ARGV[1])) then return 1 end
return 0
