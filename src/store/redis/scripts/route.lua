-- Writes one line of the directory, the first part of join.lua and all of
-- leave.lua. A line of a higher generation is left alone.
--
-- ARGV[4] node       16 bytes
-- ARGV[5] generation
-- ARGV[6] sessions   0 takes the line out
--
-- Answers 1 if the node has a line afterwards, else 0.
local generation, sessions = tonumber(ARGV[5]), tonumber(ARGV[6])
local at = DIRECTORY_AT + 1
repeat
  at = string.find(meta, ARGV[4], at, true)
  -- The bytes of an id can also appear across two lines.
  local aligned = at and (at - DIRECTORY_AT - 1) % LINE_BYTES == 0
  if at and not aligned then at = at + 1 end
until not at or aligned

answer = at and 1 or 0
if not at or select(2, struct.unpack(LINE, meta, at)) <= generation then
  if sessions > 0 then
    answer = 1
    local offset = at and at - 1 or math.max(#meta, DIRECTORY_AT)
    local line = struct.pack(LINE, ARGV[4], generation, sessions)
    call('SETRANGE', KEYS[1], offset, line)
    -- While a session is there, the channel is not forgotten: finish.lua sees to
    -- that, but to it a channel that was never appended to is unknown.
    refresh = 0
    if not known then
      call('PEXPIRE', KEYS[1], math.max(tonumber(ARGV[3]), DAY))
      call('PEXPIRE', KEYS[6], math.max(tonumber(ARGV[3]), DAY))
    end
  elseif at then
    answer = 0
    meta = string.sub(meta, 1, at - 1) .. string.sub(meta, at + LINE_BYTES)
    if known or #meta > DIRECTORY_AT then
      call('SET', KEYS[1], meta, 'KEEPTTL')
    else
      call('DEL', KEYS[1])
    end
  end
end
