# Each process stays below its limit; where only processes are limited, all of them get what they want.
# expect: memory or passed
import os
import time

for _ in range(8):
    if os.fork() == 0:
        kept = bytearray(b"x" * (60 << 20))
        time.sleep(0.3)
        os._exit(0)
for _ in range(8):
    os.wait()
