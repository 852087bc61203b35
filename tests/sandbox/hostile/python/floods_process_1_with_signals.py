# Sends process 1 a million signals while output waits to be read.
# expect: passed
import os
import signal

for number in range(100_000):
    os.kill(1, signal.SIGCHLD)
    os.kill(1, signal.SIGINT)
    os.kill(1, signal.SIGRTMIN)
