-- Accepts messages as nearly all are: each goes behind the others, in a box that
-- need be neither settled nor trimmed. Does for many what append.lua would do for
-- one, which costs half as much; whatever is out of the ordinary is left to it.
--
-- KEYS[2n - 1]   meta of the n-th message's channel, as in prelude.lua
-- KEYS[2n]       its box
-- ARGV[1]        run, as in prelude.lua
-- ARGV[2]        messages, as in repeated.lua
-- ARGV[2n + 1]   ttl of the n-th message, ms
-- ARGV[2n + 2]   its record
--
-- Answers {now_us I7, one string a message, in the order of their arguments}:
-- epoch c8, seq I6, directory; empty if nothing was done, nor for any later
-- message of that channel.
local call, pack, unpack_ = redis.call, struct.pack, struct.unpack
local clock = call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)
local at, run = pack('>I7', now_us), ARGV[1]
local messages_limit = tonumber(ARGV[2])
messages_limit = messages_limit + math.floor(messages_limit / 20)

local answers, left = { at }, {}
for n = 2, #KEYS, 2 do
  local key, answer = KEYS[n - 1], ''
  local meta = not left[key] and call('GET', key)
  if meta and #meta >= COLD_AT then
    local version, mixed, epoch, of, seq, floor, watermark, holes, next_expiry, top_expiry, box_ttl, refresh,
      length = unpack_(HOT, meta)
    local expires = now + ARGV[n + 1]
    if version == VERSION and mixed == 0 and of == run and length > 0 and length < messages_limit
      and expires >= top_expiry and expires <= box_ttl and now < refresh and now < next_expiry + 10000 then
      seq = seq + 1
      -- A box that is not there expired, and what it held must be settled first.
      local id = string.format('%d', seq)
      if call('XADD', KEYS[n], 'NOMKSTREAM', id, 'h', at .. pack('>I6', expires), 'm', ARGV[n + 2]) then
        call('SETRANGE', key, '0', pack(HOT, version, mixed, epoch, run, seq, floor, watermark, holes,
          next_expiry, expires, box_ttl, refresh, length + 1))
        answer = epoch .. pack('>I6', seq) .. string.sub(meta, DIRECTORY_AT + 1)
      end
    end
  end
  if answer == '' then left[key] = true end
  answers[n / 2 + 1] = answer
end
return answers
