# Lifts the limits that it runs under, its own and those of process 1.
# expect: passed
import os
import resource

for pid in (0, 1, os.getpid()):
    for name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_FSIZE"):
        try:
            resource.prlimit(pid, getattr(resource, name), (1 << 40, 1 << 40))
            print("BREACH:", pid, name)
        except (OSError, ValueError):
            pass
try:
    resource.prlimit(1, resource.RLIMIT_CPU, (0, 0))
    print("BREACH: the limits of process 1")
except OSError:
    pass
