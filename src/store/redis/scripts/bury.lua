-- Removes what a dead node left, once nothing in it is owed to anyone.
--
-- KEYS[1] lease
-- KEYS[2] stream
-- KEYS[3] index
-- KEYS[4] heartbeat
-- ARGV[1] whose the lease must be
--
-- Answers 1 if it is done, 2 if there was no stream any more, else 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('XLEN', KEYS[2]) > 0 or redis.call('SCARD', KEYS[3]) > 0 then return 0 end
local stood = redis.call('DEL', KEYS[2]) == 1
redis.call('DEL', KEYS[1], KEYS[3], KEYS[4])
return stood and 1 or 2
