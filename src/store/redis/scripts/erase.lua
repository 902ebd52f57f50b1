-- Forgets all that is kept of a channel, its directory excepted.
--
-- Answers {messages, devices} that it had.
answer = { call('XLEN', KEYS[2]), call('HLEN', KEYS[6]) }
call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
if #meta > DIRECTORY_AT then
  -- Version 0: only the directory is known.
  call('SET', KEYS[1], string.rep('\0', DIRECTORY_AT) .. string.sub(meta, DIRECTORY_AT + 1), 'KEEPTTL')
else
  call('DEL', KEYS[1])
end
known = false
