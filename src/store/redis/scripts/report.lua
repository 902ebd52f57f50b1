-- What became of ephemeral messages that a node had to account for.
--
-- ARGV[4] received
-- ARGV[5] dropped
--
-- Answers {received, dropped}, cut to what waits.
answer = { 0, 0 }
if known then
  cold()
  local waiting = e_accepted - e_received - e_dropped - e_unreported
  local got = math.min(tonumber(ARGV[4]), waiting)
  local gone = math.min(tonumber(ARGV[5]), waiting - got)
  e_received, e_dropped = e_received + got, e_dropped + gone
  answer = { got, gone }
end
