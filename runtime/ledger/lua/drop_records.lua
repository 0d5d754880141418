-- KEYS: records backups holding
-- ARGV: project, then backups
for i = 2, #ARGV do
  drop(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[i])
end
return 1
