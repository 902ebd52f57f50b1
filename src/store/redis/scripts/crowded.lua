-- Behind whatever may have added a cursor, `came`: forgets those that moved
-- longest ago once there are more than `cursors_max`, and some more than need be,
-- so that it happens rarely. Users that have many are left the newest half of what
-- a user may have, and others lose theirs only if that is not enough: nobody crowds
-- out others with names that cost nothing.
if came and call('HLEN', KEYS[6]) > cursors_max then
  -- In a channel of many users: user/device.
  local user_of = function(name) return string.match(name, '^(.*)/') end
  local all, others, cursors, newer = call('HGETALL', KEYS[6]), {}, {}, {}
  for at = 2, #all, 2 do
    local name = all[at - 1]
    local user = user_of(name)
    if user then cursors[user] = (cursors[user] or 0) + 1 end
    if name ~= came then
      others[#others + 1] = { name = name, user = user, moved = struct.unpack('>I6', all[at], 15) }
    end
  end
  table.sort(others, function(one, other) return one.moved > other.moved end)
  if user_of(came) then newer[user_of(came)] = 1 end
  local many, few = {}, {}
  for _, cursor in ipairs(others) do
    local user, group = cursor.user, few
    if user and cursors[user] > USER_CURSORS then
      newer[user] = (newer[user] or 0) + 1
      if newer[user] > USER_CURSORS / 2 then group = many end
    end
    group[#group + 1] = cursor.name
  end
  local needed, gone = #others + 1 - cursors_max, many
  if #many < needed then
    for at = #few, math.max(1, #few - needed + #many + 1 - math.floor(cursors_max / 20)), -1 do
      gone[#gone + 1] = few[at]
    end
  end
  for at = 1, #gone, 1000 do
    call('HDEL', KEYS[6], unpack(gone, at, math.min(at + 999, #gone)))
  end
end
