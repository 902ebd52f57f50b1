-- Notes that a node has a line in a channel's directory. A script only because a
-- plain SADD is refused when memory is short, and joining must not be.
--
-- KEYS[1] index  set: the channels that the node has directory lines of
-- KEYS[2] stream
-- ARGV[1] channel
-- ARGV[2] index ttl, ms; beats renew it
-- ARGV[3] the same for a node that has no stream: it was buried and joins too
--         late, under an id that nobody will bury again
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3 - redis.call('EXISTS', KEYS[2])])
return 1
