-- Renews a heartbeat, unless the node was declared dead meanwhile.
--
-- KEYS[1] heartbeat
-- KEYS[2] lease
-- KEYS[3] stream
-- KEYS[4] index  set: the channels that the node has directory lines of
-- KEYS[5] life   as in life.lua
-- ARGV[1] what the heartbeat says
-- ARGV[2] heartbeat ttl, ms
-- ARGV[3] index ttl, ms
-- ARGV[4] what the node found there; empty if it cannot know. Written again where
--         nothing is any more: all is gone, and nothing comes back
--
-- Answers {beaten, now_us, 1 if the data is in another life}.
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local outlived = 0
if ARGV[4] ~= '' then
  local life = redis.call('GET', KEYS[5])
  if not life then
    redis.call('SET', KEYS[5], ARGV[4])
  elseif string.sub(life, -8) ~= string.sub(ARGV[4], -8) then
    outlived = 1
  end
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  -- Lapsed. The group outlives the lease: whoever took the stream destroyed it.
  if redis.call('EXISTS', KEYS[2]) == 1 or redis.call('EXISTS', KEYS[3]) == 0
    or #redis.call('XINFO', 'GROUPS', KEYS[3]) == 0 then
    return { 0, now_us, outlived }
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('PEXPIRE', KEYS[4], ARGV[3])
return { 1, now_us, outlived }
