-- Takes all the memory that it can get.
-- expect: memory or failed
local kept = {}
while true do kept[#kept + 1] = string.rep("x", 1 << 20) .. #kept end
