-- Between route.lua and read.lua: a join keeps the channel from being forgotten.
refresh = 0
