-- Takes one message out of the box.
--
-- ARGV[4] id   16 bytes
-- ARGV[5] seq
--
-- Answers {1 if it was taken, 1 if nobody had received it, lost}.
local taken, unreceived, lost = 0, 0, 0
if known then
  lost = settle(0)
  local entry = call('XRANGE', KEYS[2], ARGV[5], ARGV[5])[1]
  if entry and string.sub(entry[2][4], 2, 17) == ARGV[4] then
    taken, unreceived = 1, forget(entry, WITHDRAWN)
    length = length - call('XDEL', KEYS[2], ARGV[5])
    if mixed == 1 then call('ZREM', KEYS[4], ARGV[5]) end
    tell()
    if unreceived == 1 then
      cold()
      withdrawn = withdrawn + 1
    end
    if length == 0 then emptied() end
  end
end
answer = { taken, unreceived, lost }
