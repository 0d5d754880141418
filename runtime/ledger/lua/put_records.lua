-- KEYS: records backups holding projects
-- ARGV: record, again and again
for _, r in ipairs(ARGV) do
  putRecord(KEYS[1], KEYS[2], KEYS[3], KEYS[4], cjson.decode(r))
end
return 1
