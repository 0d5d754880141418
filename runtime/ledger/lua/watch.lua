-- KEYS: watching watched tracked projects
-- ARGV: watch
watch(KEYS[1], KEYS[2], KEYS[3], KEYS[4], cjson.decode(ARGV[1]))
return 1
