-- How what is kept of a channel is laid out; keys as in prelude.lua.
--
-- departure: id c16, seq I6, why B (1 expired, 2 collapsed, 3 trimmed, 4
--         withdrawn), received B (by a device, before), h, at_ms I6
-- record: version B, id c16, key length I2, trace length I2, key, trace, data.
-- meta is one string, since a hash of this many fields costs more to read and
-- write than all the rest of an append:
--    0 hot  version B (0: only the directory is known), mixed B, epoch c8,
--           run c8; I6 each: seq, floor, watermark, holes, next expiry, top
--           expiry, box ttl, refresh; entries in the box I4
--   70 cold I6 each: received, expired, collapsed, dropped (mailbox full);
--           ephemeral accepted, received, dropped, unreported, last accept;
--           withdrawn
--  130 directory, a line a node: node c16, generation I7, sessions I4
-- Accepted with a TTL is seq itself. Holes are the seqs above the watermark that
-- are classed already: seq - watermark - holes messages wait. The box is mixed
-- when its entries do not expire in the order of their seqs.
local VERSION, HOT, COLD = 1, '>BBc8c8I6I6I6I6I6I6I6I6I4', '>I6I6I6I6I6I6I6I6I6I6'
local COLD_AT, DIRECTORY_AT, DAY = 70, 130, 86400000
-- A line of the directory, and the head of a page (see read.lua).
local LINE, LINE_BYTES = '>c16I7I4', 27
local HEAD, NONE = '>Bc8I6I6Bc8I6c8I6I4', '\0\0\0\0\0\0\0\0'
