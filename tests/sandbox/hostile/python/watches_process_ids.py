# Sees and counts the processes of others.
# expect: passed
import os

others = [name for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, os.getpid())]
if others or os.getpid() > 20:
    print("BREACH:", others, os.getpid())
