-- Nameless sessions received everything up to a position, and nothing else is to
-- be done about their channels. Does for many what receive.lua would do for one;
-- whatever is out of the ordinary is left to it.
--
-- KEYS[n]      meta of the n-th channel, as in layout.lua
-- ARGV[2n - 1] epoch  8 bytes, of the n-th position
-- ARGV[2n]     seq    of the n-th position
--
-- Answers a number a channel: how many are newly received; -1 if nothing was done.
local call, pack, unpack_ = redis.call, struct.pack, struct.unpack
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local KEYS, ARGV = KEYS, ARGV
local hot_and_received = HOT .. 'I6'

local answers = {}
for n = 1, #KEYS do
  local key, upto, newly = KEYS[n], tonumber(ARGV[n * 2]), -1
  local meta = call('GET', key)
  if meta and #meta >= DIRECTORY_AT then
    local seq, _, _, version, _, _, _, _, epoch, _, holes, next_expiry, refresh, watermark, received =
      unpack_(hot_and_received, meta)
    if version == VERSION and epoch == ARGV[n * 2 - 1] and upto <= seq and holes == 0 and now < next_expiry
      and now < refresh then
      newly = math.max(upto - watermark, 0)
      if newly > 0 then
        call('SETRANGE', key, WATERMARK_AT, pack('>I6I6', upto, received + newly))
      end
    end
  end
  answers[n] = newly
end
return answers
