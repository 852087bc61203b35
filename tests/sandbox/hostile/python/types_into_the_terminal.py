# Pushes characters into the input of the host's terminal.
# expect: passed
import fcntl
import os

for path in ("/dev/tty", "/dev/console", "/dev/pts/0", "/dev/stdin"):
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        continue
    for request in (0x5412, 0x541C):
        try:
            fcntl.ioctl(descriptor, request, b"x")
            print("BREACH:", path)
        except OSError:
            pass
