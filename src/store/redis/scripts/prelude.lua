-- What every channel script begins with, behind layout.lua: its keys, the clock,
-- the channel's state.
--
-- KEYS[1] meta      string, as in layout.lua
-- KEYS[2] box       stream: <seq>-0 = h (accepted_us I7, expires_ms I6), m record
-- KEYS[3] keys      hash: collapse key -> seq I6, id c16, h, of who has it; and
--                   \255 and a byte, seq modulo 256 -> a departure, likewise
-- KEYS[4] expiries  zset: seq by expiry; kept only while the box is mixed
-- KEYS[5] lineage   string: epoch c8, last seq I6; newest first, 16 at most
-- KEYS[6] cursors   hash: device -> epoch c8, seq I6, at_ms I6, seq where it began I6
-- ARGV[1] run       8 bytes: which life of the Redis process this is
-- ARGV[2] epoch     8 bytes: the epoch to take if the channel needs a new one
-- ARGV[3] retention ms that a channel lives untouched

local call = redis.call
local clock = call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)

local version, mixed, epoch, run = 0, 0, nil, nil
local seq, floor, watermark, holes, next_expiry, top_expiry, box_ttl, refresh = 0, 0, 0, 0, 0, 0, 0, 0
local length, plain_till = 0, 0
local received, expired, collapsed, dropped, e_accepted, e_received, e_dropped, e_unreported, e_last, withdrawn
local meta = call('GET', KEYS[1]) or ''
if meta ~= '' then
  seq, top_expiry, length, version, run, plain_till, box_ttl, mixed, epoch, floor, holes, next_expiry, refresh,
    watermark = struct.unpack(HOT, meta)
  if version > VERSION then
    return redis.error_reply('FORMAT channel meta has version ' .. version .. ', above ' .. VERSION)
  end
end
local known = version > 0

-- `quick`: no function of rare.lua is needed. finish.lua writes the hot part if
-- `dirty`, the cold part if it was loaded, and returns `answer`.
local quick, dirty, answer = false, false, nil
