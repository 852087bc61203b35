# Becomes another program that never ends.
# expect: time
exec sleep 3600
