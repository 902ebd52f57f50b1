-- Takes a value that only one may have.
--
-- KEYS[1] ticket  string with an expiry
--
-- Answers it, or nothing.
local value = redis.call('GET', KEYS[1])
if value then redis.call('DEL', KEYS[1]) end
return value
