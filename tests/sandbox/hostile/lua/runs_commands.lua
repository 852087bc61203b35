-- Leaves a command running and reads outside.
-- expect: passed
os.execute("setsid sleep 3600 > /dev/null 2>&1 &")
local file = io.open("/etc/shadow")
if file then print("BREACH", file:read("a")) end
