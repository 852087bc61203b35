# Reads what the host has.
# expect: passed
for path in $(echo "$HOSTILE_PATHS" | tr : ' ') /etc/shadow /etc/passwd /root/.profile /proc/1/environ; do
    cat "$path" 2> /dev/null && echo BREACH
done
ls /root /home /var /srv /opt /mnt /sys /run 2> /dev/null && echo BREACH
env
