-- A device received everything up to a position.
--
-- ARGV[4] device or empty
-- ARGV[5] epoch  8 bytes
-- ARGV[6] seq
-- ARGV[7] cursors that are kept at most; in crowded.lua
--
-- Answers {received, expired}.
local upto = tonumber(ARGV[6])
local came, cursors_max = false, tonumber(ARGV[7])
local newly, lost = 0, 0
local last = known and reach(ARGV[5])
if last and upto <= last then
  lost = settle(0)
  if ARGV[4] ~= '' then
    local old = call('HGET', KEYS[6], ARGV[4])
    local ahead = false
    -- A device that never joined by name begins, as far as is known, behind what
    -- others have received.
    local began = struct.pack('>I6', math.min(watermark, upto))
    if old then
      local old_epoch, old_seq = struct.unpack('>c8I6', old)
      local old_last = old_epoch == '\0\0\0\0\0\0\0\0' and 0 or reach(old_epoch)
      -- A cursor of a life that is gone is ahead of nothing.
      ahead = old_seq > upto and old_seq <= (old_last or -1)
      if old_last then began = string.sub(old, 21) end
    end
    if not ahead then
      call('HSET', KEYS[6], ARGV[4], struct.pack('>c8I6I6', ARGV[5], upto, now) .. began)
      if not old then
        came = ARGV[4]
        call('PEXPIRE', KEYS[6], math.max(tonumber(ARGV[3]), box_ttl - now))
      end
    end
  end
  if upto > watermark then
    if holes == 0 then
      newly = upto - watermark
    elseif upto == seq then
      newly = seq - watermark - holes
    else
      local from = watermark + 1
      repeat
        local entries = call('XRANGE', KEYS[2], from, upto, 'COUNT', 20)
        newly = newly + #entries
        if #entries > 0 then from = '(' .. entries[#entries][1] end
      until #entries < 20
    end
    cold()
    received = received + newly
    holes = holes - (upto - watermark - newly)
    watermark, dirty = upto, true
  end
end
answer = { newly, lost }
