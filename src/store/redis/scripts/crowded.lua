-- Behind whatever may have added a cursor, `came`: forgets those that moved
-- longest ago once there are more than `cursors_max`, and some more than need be,
-- so that it happens rarely. First go the surplus ones of users that have many:
-- nobody crowds out others with names that cost nothing.
if came and call('HLEN', KEYS[6]) > cursors_max then
  local all, others = call('HGETALL', KEYS[6]), {}
  for at = 2, #all, 2 do
    if all[at - 1] ~= came then
      others[#others + 1] = { name = all[at - 1], moved = struct.unpack('>I6', all[at], 15) }
    end
  end
  table.sort(others, function(one, other) return one.moved > other.moved end)
  local cursors, many, few = {}, {}, {}
  for _, cursor in ipairs(others) do
    -- In a channel of many users: user/device.
    local user = string.match(cursor.name, '^(.*)/') or ''
    cursors[user] = (cursors[user] or 0) + 1
    local group = cursors[user] > USER_CURSORS and many or few
    group[#group + 1] = cursor.name
  end
  local needed = #others + 1 - cursors_max
  local surplus, gone = needed + math.floor(cursors_max / 20), {}
  for _, group in ipairs(#many < needed and { many, few } or { many }) do
    for at = #group, 1, -1 do
      if #gone < surplus then gone[#gone + 1] = group[at] end
    end
  end
  for at = 1, #gone, 1000 do
    call('HDEL', KEYS[6], unpack(gone, at, math.min(at + 999, #gone)))
  end
end
