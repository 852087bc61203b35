# Leaves a child in a session of its own.
# expect: passed
import os
import time

if os.fork() == 0:
    os.setsid()
    time.sleep(3600)
