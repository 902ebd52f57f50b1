-- Notes that a channel is online or offline, if its directory says so.
--
-- KEYS[1] meta
-- KEYS[2] online  string with an expiry: whoever follows presence was told
-- ARGV[1] 1 for online, 0 for offline
-- ARGV[2] where meta's directory begins
-- ARGV[3] ttl of the note, ms
--
-- Answers 1 if that is news, else 0.
local there = redis.call('STRLEN', KEYS[1]) > tonumber(ARGV[2])
if ARGV[1] == '1' then
  if not there then return 0 end
  if redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[3]) then return 1 end
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
  return 0
end
if there then return 0 end
return redis.call('DEL', KEYS[2])
