-- How what is kept of a channel is laid out; keys as in prelude.lua.
--
-- departure: id c16, seq I6, why B (1 expired, 2 collapsed, 3 trimmed, 4
--         withdrawn), received B (by a device, before), h, at_ms I6
-- record: version B, id c16, key length I2, trace length I2, key, trace, data.
-- meta is one string, since a hash of this many fields costs more to read and
-- write than all the rest of an append:
--    0 hot  seq I6, top expiry I6, entries in the box I4: what an append changes;
--           version B (0: only the directory is known), run c8, plain till I6,
--           box ttl I6: what else it looks at;
--           mixed B, epoch c8; I6 each: floor, holes, next expiry, refresh,
--           watermark
--   76 cold I6 each: received, expired, collapsed, dropped (mailbox full);
--           ephemeral accepted, received, dropped, unreported, last accept;
--           withdrawn
--  136 directory, a line a node: node c16, generation I7, sessions I4
-- Accepted with a TTL is seq itself. Holes are the seqs above the watermark that
-- are classed already: seq - watermark - holes messages wait. The box is mixed
-- when its entries do not expire in the order of their seqs. Until plain till
-- nothing is due, and the box is not mixed: what expires no earlier than top
-- expiry may go behind the others. Watermark and received stand side by side,
-- since an acknowledgement changes both.
local VERSION, HOT, COLD = 1, '>I6I6I4Bc8I6I6Bc8I6I6I6I6I6', '>I6I6I6I6I6I6I6I6I6I6'
local APPENDED, WATERMARK_AT = '>I6I6I4', '70'
local COLD_AT, DIRECTORY_AT, DAY = 76, 136, 86400000
-- How long after its expiry a message may still be in the box, ms.
local SLACK = 10000
-- How many cursors of one user are kept in a channel that is crowded.
local USER_CURSORS = 100
-- A line of the directory, and the head of a page (see read.lua).
local LINE, LINE_BYTES = '>c16I7I4', 27
local HEAD, NONE = '>Bc8I6I6Bc8I6c8I6I4', '\0\0\0\0\0\0\0\0'
