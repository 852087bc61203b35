# Fills the private /tmp.
# expect: failed or memory
n=0
while head -c 4000000 /dev/zero > "/tmp/fill$n"; do n=$((n + 1)); done
exit 1
