-- Tells which life the data is in, and begins another if what was accepted in the
-- last one may have been taken back.
--
-- KEYS[1] life  string: run id, a space, replication id, a space, life c8
-- ARGV[1] run id of this server
-- ARGV[2] replication id
-- ARGV[3] 1 if the replication id is that of a replica that was made a master
-- ARGV[4] the life to begin where none is known
-- ARGV[5] the life to begin else
--
-- Answers what is noted then.
local known = redis.call('GET', KEYS[1])
local server = ARGV[1] .. ' ' .. ARGV[2] .. ' '
local life = known and string.sub(known, -8) or ARGV[4]
if known == server .. life then return known end
-- A master takes another replication id, too, when its last replica is long gone,
-- or its first one comes.
local same = known and string.sub(known, 1, #ARGV[1] + 1) == ARGV[1] .. ' ' and ARGV[3] == '0'
if known and not same then life = ARGV[5] end
redis.call('SET', KEYS[1], server .. life)
return server .. life
