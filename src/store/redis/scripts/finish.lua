-- How every channel script ends.
local due = known and now >= refresh
local retention
if due then
  retention = tonumber(ARGV[3])
  refresh = now + math.floor(math.min(DAY, retention / 4))
end
if due or (known and dirty) then
  plain_till = mixed == 0 and math.min(refresh, next_expiry + SLACK) or 0
  call('SETRANGE', KEYS[1], '0', struct.pack(HOT, seq, top_expiry, length, VERSION, run, plain_till, box_ttl,
    mixed, epoch, floor, holes, next_expiry, refresh, watermark))
end
if known and received then
  call('SETRANGE', KEYS[1], COLD_AT, struct.pack(COLD, received, expired, collapsed, dropped, e_accepted,
    e_received, e_dropped, e_unreported, e_last, withdrawn))
end
if due then
  -- Meta outlives the box: without it, what the box holds would be lost.
  local until_ms = math.max(now + retention, box_ttl)
  if call('STRLEN', KEYS[1]) > DIRECTORY_AT then until_ms = math.max(until_ms, now + DAY) end
  call('PEXPIREAT', KEYS[1], until_ms)
  call('PEXPIREAT', KEYS[5], until_ms)
  call('PEXPIREAT', KEYS[6], until_ms)
end
return answer
