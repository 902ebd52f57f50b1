-- Everything about a channel, settled first.
--
-- ARGV[4] devices  whose cursors are told, about
--
-- Answers {known, epoch, seq, floor, watermark, entries, waiting, received,
-- expired, collapsed, dropped, ephemeral accepted, received, dropped, unreported,
-- withdrawn, directory, cursors, whether there are more}; waiting is counted entry by entry.
local directory, cursors, more_cursors = string.sub(meta, DIRECTORY_AT + 1), nil, 0
if call('HLEN', KEYS[6]) <= tonumber(ARGV[4]) then
  cursors = call('HGETALL', KEYS[6])
else
  more_cursors, cursors = 1, call('HSCAN', KEYS[6], '0', 'COUNT', ARGV[4])[2]
end
if not known then
  answer = { 0, '', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, directory, cursors, more_cursors }
else
  settle(0)
  cold()
  local waiting = e_accepted - e_received - e_dropped - e_unreported
  if waiting > 0 and now > e_last + 60000 then
    e_unreported, waiting = e_unreported + waiting, 0
  end
  local from = watermark + 1
  repeat
    local entries = call('XRANGE', KEYS[2], from, '+', 'COUNT', 20)
    waiting = waiting + #entries
    if #entries > 0 then from = '(' .. entries[#entries][1] end
  until #entries < 20
  answer = { 1, epoch, seq, floor, watermark, length, waiting, received, expired, collapsed, dropped,
    e_accepted, e_received, e_dropped, e_unreported, withdrawn, directory, cursors, more_cursors }
end
