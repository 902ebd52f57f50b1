-- Enters sessions as most come: nameless, for a channel in which nothing waits and
-- that the node has no line of. Does for many what join.lua would do for one, at a
-- quarter of the cost; whatever is out of the ordinary is left to it.
--
-- KEYS[n]      meta of the n-th channel, as in layout.lua
-- ARGV[1]      run, as in prelude.lua
-- ARGV[2]      retention, as in prelude.lua
-- ARGV[n + 2]  the n-th's line of the directory, all of one node
--
-- Answers a string a channel: the head of read.lua; empty if nothing was done.
local call, pack, find = redis.call, struct.pack, string.find
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local KEYS, ARGV = KEYS, ARGV
local run, node = ARGV[1], string.sub(ARGV[3], 1, 16)
-- A number would be turned into text at every call.
local retention = string.format('%d', math.max(tonumber(ARGV[2]), DAY))
local unknown = string.rep('\0', DIRECTORY_AT)
local never_sent = pack(HEAD, 0, NONE, 0, 0, 0, NONE, 0, NONE, 0, 0)

local answers = {}
for n = 1, #KEYS do
  local key, line, answer = KEYS[n], ARGV[n + 2], ''
  local meta = call('GET', key)
  if not meta then
    call('SET', key, unknown .. line, 'PX', retention)
    answer = never_sent
  elseif not find(meta, node, DIRECTORY_AT + 1, true) then
    local seq, _, _, version, of, _, _, _, epoch, _, _, next_expiry, refresh, watermark =
      struct.unpack(HOT, meta)
    if version == 0 then
      call('SETRANGE', key, #meta, line)
      call('PEXPIRE', key, retention)
      answer = never_sent
    elseif version == VERSION and of == run and watermark == seq and now < refresh
      and (next_expiry == 0 or now < next_expiry) then
      -- Kept for a while yet: finish.lua refreshes it once in a while, no more.
      call('SETRANGE', key, math.max(#meta, DIRECTORY_AT), line)
      answer = pack(HEAD, 1, epoch, seq, seq, 0, epoch, seq, epoch, seq, 0)
    end
  end
  answers[n] = answer
end
return answers
