-- Behind whatever may have added a cursor, `came`: forgets those that moved
-- longest ago once there are more than `cursors_max`, and some more than need be,
-- so that it happens rarely.
if came and call('HLEN', KEYS[6]) > cursors_max then
  local all, moved = call('HGETALL', KEYS[6]), {}
  for at = 2, #all, 2 do
    if all[at - 1] ~= came then moved[#moved + 1] = struct.unpack('>I6', all[at], 15) end
  end
  table.sort(moved)
  local surplus = #moved + 1 - cursors_max + math.floor(cursors_max / 20)
  local before, gone = moved[surplus] or moved[#moved], {}
  for at = 2, #all, 2 do
    if #gone < surplus and all[at - 1] ~= came and struct.unpack('>I6', all[at], 15) <= before then
      gone[#gone + 1] = all[at - 1]
    end
  end
  for at = 1, #gone, 1000 do
    call('HDEL', KEYS[6], unpack(gone, at, math.min(at + 999, #gone)))
  end
end
