# A daemon: forked twice, with all its streams closed.
# expect: passed
import os
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 64)
        while True:
            time.sleep(1)
    os._exit(0)
os.wait()
