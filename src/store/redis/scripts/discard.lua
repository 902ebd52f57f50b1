-- Deletes entries that were handed on, and renews the lease.
--
-- KEYS[1] lease
-- KEYS[2] stream
-- ARGV[1] whose the lease must be
-- ARGV[2] lease ttl, ms
-- ARGV[3..] entry ids
--
-- Answers 1, or 0 if the lease is not theirs.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for at = 3, #ARGV, 1000 do
  redis.call('XDEL', KEYS[2], unpack(ARGV, at, math.min(at + 999, #ARGV)))
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
