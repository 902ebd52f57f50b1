-- Accepts one message with a TTL, all or nothing; keys and arguments as in
-- prelude.lua and repeated.lua.
--
-- Answers one string: \0, epoch c8, seq I6, accepted_us I7, expires_ms I6;
-- expired, collapsed, dropped and (ephemeral) no session I4 each; directory.
local lost, replaced, trimmed = 0, 0, 0

if not quick then
  if not known or run ~= ARGV[1] then renew() end
  lost = settle(SLACK)
  if length > 0 and mixed == 0 and expires < top_expiry then
    -- From here on the head does not expire first: index what is there.
    mixed = 1
    for _, entry in ipairs(call('XRANGE', KEYS[2], '-', '+')) do
      local _, at = struct.unpack('>I7I6', entry[2][2])
      call('ZADD', KEYS[4], at, string.match(entry[1], '^%d+'))
    end
    call('PEXPIREAT', KEYS[4], box_ttl)
  end
  call('XADD', KEYS[2], id, 'h', head, 'm', ARGV[4])
end

seq, length, dirty = number, length + 1, true
if mixed == 1 then call('ZADD', KEYS[4], expires, id) end
if expires > top_expiry then top_expiry = expires end
if expires < next_expiry or next_expiry == 0 then next_expiry = expires end

local extended = expires > box_ttl
if extended then
  box_ttl = expires + math.floor(ttl / 4) + 1000
  call('PEXPIREAT', KEYS[2], box_ttl)
  call('PEXPIREAT', KEYS[3], math.max(box_ttl, now + 600000))
  call('PEXPIREAT', KEYS[4], box_ttl)
  -- A box that would outlive meta has it refreshed.
  if ttl > tonumber(ARGV[3]) / 2 then refresh = 0 end
end

if collapse_key ~= '' then
  local old = call('HGET', KEYS[3], collapse_key)
  local mine = struct.pack('>I6', number) .. string.sub(ARGV[4], 2, 17) .. head
  local old_number = old and struct.unpack('>I6', old)
  if old and call('XDEL', KEYS[2], string.format('%d', old_number)) == 1 then
    length = length - 1
    if mixed == 1 then call('ZREM', KEYS[4], string.format('%d', old_number)) end
    local got = 1
    if old_number > watermark then
      got, replaced, holes = 0, 1, holes + 1
      if not quick then
        cold()
        collapsed = collapsed + 1
      else
        -- One count is not worth the functions that load them all.
        local at = COLD_AT + 12
        call('SETRANGE', KEYS[1], at, struct.pack('>I6', struct.unpack('>I6', meta, at + 1) + 1))
      end
    end
    -- Its departure is noted by the same command.
    call('HSET', KEYS[3], collapse_key, mine, '\255' .. string.char(old_number % 256),
      string.sub(old, 7, 22) .. string.sub(old, 1, 6) .. struct.pack('>BB', 2, got) .. string.sub(old, 23)
      .. struct.pack('>I6', now))
  else
    call('HSET', KEYS[3], collapse_key, mine)
  end
  if not old then call('PEXPIREAT', KEYS[3], math.max(box_ttl, now + 600000)) end
  if length == 1 then
    if mixed == 1 then call('DEL', KEYS[4]) end
    mixed, next_expiry, top_expiry = 0, expires, expires
  end
end

if length > messages_limit then
  for _, entry in ipairs(call('XRANGE', KEYS[2], '-', '+', 'COUNT', length - messages_max)) do
    local unreceived
    unreceived, floor = forget(entry, TRIMMED)
    trimmed = trimmed + unreceived
    if mixed == 1 then call('ZREM', KEYS[4], floor) end
  end
  length = length - call('XTRIM', KEYS[2], 'MINID', floor + 1)
  tell()
  if trimmed > 0 then
    cold()
    dropped = dropped + trimmed
  end
end

if KEYS[7] then
  call('SET', KEYS[7], struct.pack('>c8c16c8I6I7I6', ARGV[8], string.sub(ARGV[4], 2, 17), epoch, seq, now_us,
    expires), 'PX', ARGV[9])
end
answer = struct.pack('>Bc8I6I7I6I4I4I4I4', 0, epoch, seq, now_us, expires, lost, replaced, trimmed, 0)
  .. string.sub(meta, DIRECTORY_AT + 1)
