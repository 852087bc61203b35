# Reads files that anyone on the host may read.
# expect: passed
import os

paths = os.environ["HOSTILE_PATHS"].split(":")
for path in [*paths, "/etc/shadow", "/etc/passwd", "/root/.bashrc", "/proc/1/environ", "/proc/1/mem"]:
    for prefix in ("", "/proc/1/root", "/proc/self/root", "/proc/self/cwd/../..", "/proc/1/cwd/../.."):
        try:
            print("BREACH:", path, open(prefix + path, "rb").read(1000))
        except OSError:
            pass
