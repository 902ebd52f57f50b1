-- The second part of append.lua: what nearly every append is, a message that
-- goes behind the others, in a box that need be neither settled nor trimmed.
local ttl, messages_max = tonumber(ARGV[5]), tonumber(ARGV[6])
local messages_limit = messages_max + math.floor(messages_max / 20)
local collapse_key = ARGV[7] or ''
local number, expires = seq + 1, now + ttl
local id = string.format('%d', number)
local head = struct.pack('>I7I6', now_us, expires)

quick = known and run == ARGV[1] and length > 0 and length < messages_limit and now < next_expiry + SLACK
  and (mixed == 1 or expires >= top_expiry)
-- A box that is not there expired, and what it held must be settled first.
if quick and not call('XADD', KEYS[2], 'NOMKSTREAM', id, 'h', head, 'm', ARGV[4]) then quick = false end
