-- Finds one message, in the box or among the departures.
--
-- ARGV[4] devices  as in found.lua
-- ARGV[5] id       16 bytes
-- ARGV[6] epoch    8 bytes of the position where it may be, or empty
-- ARGV[7] seq      of that position
-- ARGV[8] from     the time at which to begin, µs; or 0: begin at the next
-- ARGV[9] next     argument, a seq
-- ARGV[10] count   entries looked at there
--
-- Answers {known, epoch, watermark, lost, departure or empty, next seq or 0, more
-- devices, devices}; the departure of what is kept has why and at 0.
local found, following, lost = '', 0, 0
if known then
  lost = settle(0)
  local is = function(entry)
    if string.sub(entry[2][4], 2, 17) ~= ARGV[5] then return false end
    local number = tonumber(string.match(entry[1], '^%d+'))
    found = struct.pack('>c16I6BB', ARGV[5], number, 0, number <= watermark and 1 or 0)
      .. entry[2][2] .. '\0\0\0\0\0\0'
    return true
  end
  local here = tonumber(ARGV[7])
  if ARGV[6] ~= '' and here <= (reach(ARGV[6]) or -1) then
    local entry = call('XRANGE', KEYS[2], here, here)[1]
    if entry then is(entry) end
  end
  if found == '' then
    local fields = call('HGETALL', KEYS[3])
    for at = 2, #fields, 2 do
      local gone = string.byte(fields[at - 1]) == 255
      if gone and string.sub(fields[at], 1, 16) == ARGV[5] then found = fields[at] end
    end
  end
  if found == '' and length > 0 then
    local low, from = tonumber(ARGV[9]), tonumber(ARGV[8])
    if from > 0 then
      -- Entries are in the order of their acceptance.
      local high = seq + 1
      low = floor + 1
      while low < high do
        local middle = math.floor((low + high) / 2)
        local entry = call('XRANGE', KEYS[2], middle, '+', 'COUNT', 1)[1]
        if entry and struct.unpack('>I7', entry[2][2]) < from then
          low = tonumber(string.match(entry[1], '^%d+')) + 1
        else
          high = middle
        end
      end
    end
    local left = tonumber(ARGV[10])
    repeat
      local entries = call('XRANGE', KEYS[2], low, '+', 'COUNT', 20)
      for _, entry in ipairs(entries) do
        low = tonumber(string.match(entry[1], '^%d+')) + 1
        if is(entry) then break end
      end
      left = left - 20
    until found ~= '' or #entries < 20 or left <= 0
    if found == '' and low <= seq then following = low end
  end
end
answer = { known and 1 or 0, epoch or '', watermark, lost, found, following, more_devices, devices }
