# Looks for what the host left in the environment, its own and that of every process.
# expect: passed
import glob
import os

print(os.environ)
for path in glob.glob("/proc/[0-9]*/*") + glob.glob("/proc/[0-9]*/task/*/environ"):
    try:
        print(open(path, "rb").read(10_000))
    except OSError:
        pass
