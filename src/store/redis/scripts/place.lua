-- The end of a join: notes where a device begins that is here for the first time.
-- Without it, what another device receives while this one is on its way would
-- move the place to which this one comes back.
--
-- ARGV[9] device   as in read.lua
-- ARGV[11] cursors that are kept at most; in crowded.lua
local came, cursors_max = newcomer and ARGV[9], tonumber(ARGV[11])
if newcomer then
  call('HSET', KEYS[6], ARGV[9], struct.pack('>c8I6I6I6', place_epoch, place_seq, now, place_seq))
  -- finish.lua does as much for a channel that is known.
  if not known then call('PEXPIRE', KEYS[6], math.max(tonumber(ARGV[3]), DAY)) end
end
