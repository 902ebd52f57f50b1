-- Reads a part of the mailbox; behind route.lua it is a join.
--
-- ARGV[7] limit  entries; one more is answered if there is one
-- ARGV[8] start  'after', 'cursor', 'cursor_or_now', 'now' or 'oldest'
-- ARGV[9] epoch  'after': 8 bytes; 'cursor': the device, or empty; 'cursor_or_now': the device
-- ARGV[10] seq   'after'
--
-- Answers {head, id, h, m, id, h, m, …}; head is known B, epoch c8, seq I6, after
-- I6, reason B (0 no gap, 1 trimmed, 2 reset), gap from c8 I6 and to c8 I6,
-- expired I4.
local start = ARGV[8]
local from_epoch, from_seq
-- For place.lua: whether a device is here for the first time, and where it begins.
local newcomer, place_epoch, place_seq = false, NONE, 0
if start == 'after' then
  from_epoch, from_seq = ARGV[9], tonumber(ARGV[10])
elseif start == 'cursor_or_now' or (start == 'cursor' and ARGV[9] ~= '') then
  local cursor = call('HGET', KEYS[6], ARGV[9])
  newcomer = not cursor
  if cursor then
    from_epoch, from_seq = struct.unpack('>c8I6', cursor)
  elseif start == 'cursor_or_now' then
    start = 'now'
  end
end

if not known then
  local reason = (from_seq or 0) > 0 and 2 or 0
  answer = { struct.pack(HEAD, 0, NONE, 0, 0, reason, from_epoch or NONE, from_seq or 0, NONE, 0, 0) }
else
  local lost = settle(0)
  local after, reason = nil, 0
  if start == 'now' then
    after = seq
  elseif start == 'oldest' then
    after = floor
  else
    if not from_epoch then from_epoch, from_seq = epoch, watermark end
    -- A place before the channel's first message, whichever epoch that was of.
    if from_epoch == NONE and from_seq == 0 then from_epoch = epoch end
    local last = reach(from_epoch)
    if not last then
      after, reason = floor, 2
    elseif from_seq <= last then
      after = from_seq
    else
      after, reason = last, 2
      -- Redis came back older than what was seen: no number may mean two messages.
      -- In a life in which the epoch was appended to, nothing can have been seen
      -- that is not there, and whoever says so says what nobody gave them.
      if from_epoch == epoch and (run ~= ARGV[1] or run == NONE) then renew() end
    end
    if after < floor then
      after = floor
      if reason == 0 then reason = 1 end
    end
  end
  place_epoch, place_seq = epoch, after
  answer = { struct.pack(HEAD, 1, epoch, seq, after, reason, from_epoch or NONE, from_seq or 0, epoch, after, lost) }
  if after < seq then
    local entries = call('XRANGE', KEYS[2], after + 1, '+', 'COUNT', tonumber(ARGV[7]) + 1)
    for at, entry in ipairs(entries) do
      local values = entry[2]
      answer[at * 3 - 1], answer[at * 3], answer[at * 3 + 1] = entry[1], values[2], values[4]
    end
  end
end
