-- Makes a project due for a look at its removals.
-- KEYS: retention projects
-- ARGV: project at
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 0 end
retain(KEYS[1], ARGV[1], ARGV[2])
return 1
