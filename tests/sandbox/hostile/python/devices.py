# Opens and makes devices.
# expect: passed
import os
import stat

for path in ("/dev/sda", "/dev/vda", "/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/ptmx"):
    try:
        os.open(path, os.O_RDWR)
        print("BREACH:", path)
    except OSError:
        pass
try:
    os.mknod("disk", 0o600 | stat.S_IFBLK, os.makedev(254, 0))
    print("BREACH: made a device")
except OSError:
    pass
