# Becomes another user, or takes privileges back.
# expect: passed
import ctypes
import os
import subprocess

libc = ctypes.CDLL(None, use_errno=True)
for user in (0, 1, 1000, 65534):
    if user != os.getuid():
        for become in (os.setuid, os.setgid, os.seteuid):
            try:
                become(user)
                print("BREACH:", become, user)
            except OSError:
                pass
if libc.prctl(38, 0, 0, 0, 0) == 0:
    print("BREACH: new privileges")
if libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[1 << 21] * 6)) == 0:
    print("BREACH: a capability")
for command in ("su", "sudo", "mount", "newgrp", "pkexec"):
    try:
        done = subprocess.run([command, "-c", "id"], capture_output=True, stdin=-3, timeout=1)
        if b"uid=0" in done.stdout:
            print("BREACH:", command)
    except (OSError, subprocess.TimeoutExpired):
        pass
