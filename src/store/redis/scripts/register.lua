-- Notes that a node beat, and finds those that did not.
--
-- KEYS[1] registry zset: node by the time it beat last, ms
-- ARGV[1] node
-- ARGV[2] ms of silence after which a node is suspected
--
-- Answers the suspects.
local clock = redis.call('TIME')
local now = math.floor(clock[1] * 1000 + clock[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
return redis.call('ZRANGE', KEYS[1], '-inf', '(' .. string.format('%d', now - ARGV[2]), 'BYSCORE')
