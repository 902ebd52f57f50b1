-- Takes or renews the lease on a dead node's stream.
--
-- KEYS[1] heartbeat
-- KEYS[2] lease string with an expiry: who reclaims
-- KEYS[3] stream
-- ARGV[1] group
-- ARGV[2] who wants it
-- ARGV[3] lease ttl, ms
-- ARGV[4] 1 if the registry knows the node
--
-- Answers 1 if the lease is theirs, else 0.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[2] then return 0 end
local stream = redis.call('EXISTS', KEYS[3]) == 1
if not stream and ARGV[4] ~= '1' then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
-- The old owner, were it only paused, reads and beats no more.
if stream then redis.call('XGROUP', 'DESTROY', KEYS[3], ARGV[1]) end
return 1
