# Uses the system's own tools for making namespaces and mounts.
# expect: passed
unshare -r true 2> /dev/null && echo BREACH
unshare -Urm true 2> /dev/null && echo BREACH
bwrap --ro-bind / / true 2> /dev/null && echo BREACH
mount -t tmpfs none /tmp 2> /dev/null && echo BREACH
nsenter -t 1 -m true 2> /dev/null && echo BREACH
chroot / true 2> /dev/null && echo BREACH
echo x 2> /dev/null > /proc/sysrq-trigger && echo BREACH
true
