-- Enters a node; harmless when repeated.
--
-- KEYS[1] stream
-- KEYS[2] heartbeat string with an expiry
-- ARGV[1] group
-- ARGV[2] what the heartbeat says
-- ARGV[3] heartbeat ttl, ms
if redis.call('EXISTS', KEYS[1]) == 0 or #redis.call('XINFO', 'GROUPS', KEYS[1]) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
