# Traps what can be trapped and goes on.
# expect: time
trap '' INT TERM HUP QUIT XCPU PIPE
while :; do sleep 100; done
