-- Notes when a user was last logged out.
--
-- KEYS[1] logout  string: ms since 1970
-- ARGV[1] for how long that is remembered, ms
--
-- Answers the time.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local at = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0))
redis.call('SET', KEYS[1], string.format('%.0f', at), 'PX', ARGV[1])
return at
