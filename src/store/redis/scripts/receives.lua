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

local answers = {}
for n = 1, #KEYS do
  local key, upto, newly = KEYS[n], tonumber(ARGV[n * 2]), -1
  local meta = call('GET', key)
  if meta and #meta >= DIRECTORY_AT then
    local version, mixed, epoch, run, seq, floor, watermark, holes, next_expiry, top_expiry, box_ttl, refresh,
      length = unpack_(HOT, meta)
    if version == VERSION and epoch == ARGV[n * 2 - 1] and upto <= seq and holes == 0 and now < next_expiry
      and now < refresh then
      newly = math.max(upto - watermark, 0)
      if newly > 0 then
        -- The count of what was received stands right behind the hot part.
        local received = unpack_('>I6', meta, COLD_AT + 1) + newly
        call('SETRANGE', key, '0', pack(HOT, version, mixed, epoch, run, seq, floor, upto, holes, next_expiry,
          top_expiry, box_ttl, refresh, length) .. pack('>I6', received))
      end
    end
  end
  answers[n] = newly
end
return answers
