-- The first part of append.lua and ephemeral.lua, behind the prelude: a known
-- idempotency key is answered without touching anything.
--
-- KEYS[7] idempotency optional string: fingerprint c8, id c16, epoch c8 and seq
--                     I6 (0 if ephemeral), accepted_us I7, expires_ms I6
-- ARGV[4] record      as the box keeps it
-- ARGV[5] ttl         ms; 0 if ephemeral
-- ARGV[6] messages    what the mailbox keeps; it is trimmed a twentieth above that
-- ARGV[7] collapse    collapse key, or empty; absent if no argument follows
-- ARGV[8] fingerprint 8 bytes, with KEYS[7]
-- ARGV[9] window      ms that an idempotency key is remembered, with KEYS[7]
--
-- Answers one string: \1, what KEYS[7] holds behind its fingerprint, directory.
if KEYS[7] then
  local first = call('GET', KEYS[7])
  if first then
    if string.sub(first, 1, 8) ~= ARGV[8] then return redis.error_reply('MISMATCH fingerprint differs') end
    return '\1' .. string.sub(first, 9) .. string.sub(meta, DIRECTORY_AT + 1)
  end
end
