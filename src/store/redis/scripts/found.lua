-- Behind find.lua and recent.lua: where the channel's devices are, in numbers of
-- the present epoch, at most as many as ARGV[4] says.
--
-- ARGV[4] devices  at most
--
-- Appends {device, (seq I6, at_ms I6, began I6), …} to the answer's last part.
local NONE = '\0\0\0\0\0\0\0\0'
local devices, more_devices = {}, 0
if known then
  local devices_max = tonumber(ARGV[4])
  local cursors
  if call('HLEN', KEYS[6]) <= devices_max then
    cursors = call('HGETALL', KEYS[6])
  else
    more_devices, cursors = 1, call('HSCAN', KEYS[6], '0', 'COUNT', devices_max)[2]
  end
  for at = 1, math.min(#cursors, devices_max * 2), 2 do
    local of, number, noted = struct.unpack('>c8I6I6', cursors[at + 1])
    local began = #cursors[at + 1] > 20 and struct.unpack('>I6', cursors[at + 1], 21) or 0
    local last = of == NONE and seq or reach(of)
    -- What a cursor of a life that is gone stands for means nothing here.
    if not last then number, began = 0, 0 end
    devices[at] = cursors[at]
    devices[at + 1] = struct.pack('>I6I6I6', math.min(number, last or 0), noted, math.min(began, last or 0))
  end
end
