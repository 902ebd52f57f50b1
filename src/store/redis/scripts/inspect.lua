-- Everything about a channel, settled first.
--
-- Answers {known, epoch, seq, floor, watermark, entries, waiting, received,
-- expired, collapsed, dropped, ephemeral accepted, received, dropped, unreported,
-- withdrawn, directory, cursors}; waiting is counted entry by entry.
local directory, cursors = string.sub(meta, DIRECTORY_AT + 1), call('HGETALL', KEYS[6])
if not known then
  answer = { 0, '', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, directory, cursors }
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
    e_accepted, e_received, e_dropped, e_unreported, withdrawn, directory, cursors }
end
