-- Functions over the state of prelude.lua. Making them costs more than a
-- microsecond at every call, so append does it only when it needs one.
local EXPIRED, TRIMMED, WITHDRAWN = 1, 3, 4
-- How long departures are remembered, ms.
local DEPARTURES_KEPT = 600000
local cold, renew, reach, forget, tell, emptied, settle
if not quick then
  -- Loads the counts; finish.lua writes them back.
  cold = function()
    if received then return end
    if not known or #meta < DIRECTORY_AT then
      received, expired, collapsed, dropped = 0, 0, 0, 0
      e_accepted, e_received, e_dropped, e_unreported, e_last, withdrawn = 0, 0, 0, 0, 0, 0
    else
      received, expired, collapsed, dropped, e_accepted, e_received, e_dropped, e_unreported, e_last, withdrawn =
        struct.unpack(COLD, meta, COLD_AT + 1)
    end
  end

  -- Ends the epoch where it stands, or begins the first; numbers go on.
  renew = function()
    if known then
      local past = string.sub(call('GET', KEYS[5]) or '', 1, 15 * 14)
      local ttl = math.max(tonumber(ARGV[3]), box_ttl - now)
      call('SET', KEYS[5], struct.pack('>c8I6', epoch, seq) .. past, 'PX', ttl)
    else
      -- What a life whose meta is gone left behind would be taken for this one's.
      call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5])
      cold()
    end
    epoch, run, known, dirty = ARGV[2], ARGV[1], true, true
  end

  -- How far the numbers of an epoch are still understood; nil if not at all.
  reach = function(of)
    if of == epoch then return seq end
    local past = call('GET', KEYS[5]) or ''
    local lowest = seq
    for at = 1, #past, 14 do
      local was, last = struct.unpack('>c8I6', past, at)
      -- What a later epoch lost is lost to the earlier ones too.
      if last < lowest then lowest = last end
      if was == of then return lowest end
    end
  end

  -- Takes an entry that leaves the box out of whatever points to it, and notes
  -- why it leaves. Answers 1 if nobody received it, else 0; and its seq.
  local departures = {}
  forget = function(entry, why)
    local number = tonumber(string.match(entry[1], '^%d+'))
    local record = entry[2][4]
    local high, low = string.byte(record, 18, 19)
    if high + low > 0 then
      local key = string.sub(record, 22, 21 + high * 256 + low)
      local holder = call('HGET', KEYS[3], key)
      if holder and struct.unpack('>I6', holder) == number then call('HDEL', KEYS[3], key) end
    end
    dirty = true
    local got = number <= watermark and 1 or 0
    departures[#departures + 1] = '\255' .. string.char(number % 256)
    departures[#departures + 1] = struct.pack('>c16I6BB', string.sub(record, 2, 17), number, why, got)
      .. entry[2][2] .. struct.pack('>I6', now)
    if number <= watermark then return 0, number end
    holes = holes + 1
    return 1, number
  end

  -- Writes what was noted.
  tell = function()
    if #departures == 0 then return end
    -- No more are remembered.
    call('HSET', KEYS[3], unpack(departures, math.max(1, #departures - 511)))
    call('PEXPIREAT', KEYS[3], math.max(box_ttl, now + DEPARTURES_KEPT))
    departures = {}
  end

  -- Departures stay, until their time is over.
  emptied = function()
    call('DEL', KEYS[2], KEYS[4])
    mixed, next_expiry, top_expiry, box_ttl, dirty = 0, 0, 0, 0, true
  end

  -- What is not there any more holds no collapse key.
  local release = function()
    local fields, holders = call('HGETALL', KEYS[3]), {}
    for at = 1, #fields, 2 do
      if string.byte(fields[at]) ~= 255 then holders[#holders + 1] = fields[at] end
    end
    for at = 1, #holders, 500 do
      call('HDEL', KEYS[3], unpack(holders, at, math.min(at + 499, #holders)))
    end
  end

  local sweep_mixed = function()
    local lost = 0
    for _, number in ipairs(call('ZRANGE', KEYS[4], '-inf', now, 'BYSCORE')) do
      local entry = call('XRANGE', KEYS[2], number, number)[1]
      if entry then
        lost = lost + forget(entry, EXPIRED)
        length = length - call('XDEL', KEYS[2], number)
      end
    end
    call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
    next_expiry = tonumber(call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')[2] or 0)
    return lost
  end

  local sweep_head = function()
    local lost, last, from = 0, nil, '-'
    next_expiry = 0
    repeat
      local entries = call('XRANGE', KEYS[2], from, '+', 'COUNT', 20)
      for _, entry in ipairs(entries) do
        local _, expires = struct.unpack('>I7I6', entry[2][2])
        if expires > now then
          next_expiry = expires
          break
        end
        local unreceived
        unreceived, last = forget(entry, EXPIRED)
        lost = lost + unreceived
      end
      if last then from = last + 1 end
    until next_expiry > 0 or #entries == 0
    if last then length = length - call('XTRIM', KEYS[2], 'MINID', last + 1) end
    return lost
  end

  -- Classes what expired: the box as a whole or, once the earliest expiry is
  -- `slack` ms past, entries in it. Answers how many of them nobody received.
  settle = function(slack)
    local lost = 0
    length = call('XLEN', KEYS[2])
    if length == 0 then
      -- It expired as a whole (or somebody deleted it).
      lost = seq - watermark - holes
      holes = holes + lost
      if box_ttl > 0 or lost > 0 then
        release()
        emptied()
      end
    elseif next_expiry > 0 and now >= next_expiry + slack then
      dirty = true
      if mixed == 1 then lost = sweep_mixed() else lost = sweep_head() end
      tell()
      if length == 0 then emptied() end
    end
    if lost > 0 then
      cold()
      expired = expired + lost
    end
    return lost
  end
end
