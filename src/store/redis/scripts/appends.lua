-- Accepts messages as nearly all are: each goes behind the others, in a box that
-- need be neither settled nor trimmed. Does for many what append.lua would do for
-- one, which costs a third as much; whatever is out of the ordinary is left to it.
--
-- KEYS[2n - 1]     meta of the n-th message's channel, as in prelude.lua
-- KEYS[2n]         its box
-- ARGV[1]          run, as in prelude.lua
-- ARGV[2]          messages, as in repeated.lua
-- ARGV[2 + n]      record of the n-th of N messages
-- ARGV[2 + N + n]  its ttl, ms; absent if that and all later ones are the last's
--                  that is there
--
-- Answers {now_us I7, one string a message, in the order of their arguments}: meta
-- as it was before the message; empty if nothing was done, nor for any later
-- message of that channel. (Every string that Lua makes is hashed whole, and this
-- one is there already.)
local call, pack, unpack_, format = redis.call, struct.pack, struct.unpack, string.format
local KEYS, ARGV = KEYS, ARGV
local clock = call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)
local at, life = pack('>I7', now_us), pack('>Bc8', VERSION, ARGV[1])
local messages_limit = tonumber(ARGV[2])
messages_limit = messages_limit + math.floor(messages_limit / 20)

local answers, left = { at }, nil
local count = #KEYS / 2
local ttl, expires, head
for n = 1, count do
  local key, answer = KEYS[n * 2 - 1], ''
  local new_ttl = ARGV[2 + count + n]
  if new_ttl and new_ttl ~= ttl then
    ttl, expires = new_ttl, now + new_ttl
    head = at .. pack('>I6', expires)
  end
  local meta = not (left and left[key]) and call('GET', key)
  if meta and #meta >= DIRECTORY_AT then
    local seq, top_expiry, length, of, plain_till, box_ttl = unpack_('>I6I6I4c9I6I6', meta)
    if of == life and length > 0 and length < messages_limit
      and expires >= top_expiry and expires <= box_ttl and now < plain_till then
      seq = seq + 1
      -- A box that is not there expired, and what it held must be settled first.
      if call('XADD', KEYS[n * 2], 'NOMKSTREAM', format('%d', seq), 'h', head, 'm', ARGV[2 + n]) then
        call('SETRANGE', key, '0', pack(APPENDED, seq, expires, length + 1))
        answer = meta
      end
    end
  end
  if answer == '' then
    left = left or {}
    left[key] = true
  end
  answers[n + 1] = answer
end
return answers
