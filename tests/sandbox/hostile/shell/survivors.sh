# Leaves jobs behind in the background.
# expect: passed
setsid sleep 3600 &
nohup sleep 3600 > /dev/null 2>&1 &
(sleep 3600 &) &
