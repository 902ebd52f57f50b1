-- Counts one message that is not kept; keys and arguments as in prelude.lua and
-- repeated.lua, answers as append.lua, with seq 0.
if not known then renew() end
local nowhere = 0
cold()
e_accepted, e_last = e_accepted + 1, now
if #meta <= DIRECTORY_AT then
  e_dropped, nowhere = e_dropped + 1, 1
end
if KEYS[7] then
  call('SET', KEYS[7], struct.pack('>c8c16c8I6I7I6', ARGV[8], string.sub(ARGV[4], 2, 17), epoch, 0, now_us,
    now), 'PX', ARGV[9])
end
answer = struct.pack('>Bc8I6I7I6I4I4I4I4', 0, epoch, 0, now_us, now, 0, 0, 0, nowhere)
  .. string.sub(meta, DIRECTORY_AT + 1)
