-- The newest messages below a number: entries of the box, and all departures.
--
-- ARGV[4] devices  as in found.lua
-- ARGV[5] before   seq; 0: from the newest on
-- ARGV[6] limit    entries
-- ARGV[7] bytes    of entries, after which the answer ends
--
-- Answers {known, epoch, watermark, lost, more devices, devices, whether entries
-- are left, departures, id, h, m, id, h, m, …}.
local lost, left, departures = 0, 0, {}
answer = {}
if known then
  lost = settle(0)
  local below = tonumber(ARGV[5])
  local from = below > 0 and string.format('(%d-0', below) or '+'
  local limit, bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
  local listed = 0
  repeat
    local entries = call('XREVRANGE', KEYS[2], from, '-', 'COUNT', 10)
    for _, entry in ipairs(entries) do
      if listed == limit or bytes <= 0 then
        left = 1
        break
      end
      answer[8 + listed * 3 + 1], answer[8 + listed * 3 + 2], answer[8 + listed * 3 + 3] =
        entry[1], entry[2][2], entry[2][4]
      listed, bytes = listed + 1, bytes - #entry[2][4]
      from = '(' .. entry[1]
    end
  until left == 1 or #entries < 10
  local fields = call('HGETALL', KEYS[3])
  for at = 2, #fields, 2 do
    if string.byte(fields[at - 1]) == 255 then departures[#departures + 1] = fields[at] end
  end
end
answer[1], answer[2], answer[3], answer[4] = known and 1 or 0, epoch or '', watermark, lost
answer[5], answer[6], answer[7], answer[8] = more_devices, devices, left, departures
