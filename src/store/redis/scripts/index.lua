-- Notes that a node has lines in channels' directories. A script only because a
-- plain SADD is refused when memory is short, and joining must not be.
--
-- KEYS[1] index  set: the channels that the node has directory lines of
-- KEYS[2] stream
-- ARGV[1] index ttl, ms; beats renew it
-- ARGV[2] the same for a node that has no stream: it was buried and joins too
--         late, under an id that nobody will bury again
-- ARGV[3] and further: the channels
redis.call('SADD', KEYS[1], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[2 - redis.call('EXISTS', KEYS[2])])
return 1
