-- Removes a node that leaves in order, if nothing is left in its stream and no
-- channel has a line of it.
--
-- KEYS[1] stream
-- KEYS[2] index
-- KEYS[3] heartbeat
--
-- Answers 1 if it is done, else 0.
if redis.call('XLEN', KEYS[1]) > 0 or redis.call('SCARD', KEYS[2]) > 0 then return 0 end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
return 1
