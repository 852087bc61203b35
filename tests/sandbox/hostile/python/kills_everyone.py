# Signals every process that it may, which includes itself.
# expect: killed
import os
import signal

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGSTOP, signal.SIGKILL, signal.SIGXCPU):
    for target in (1, os.getppid()):
        try:
            os.kill(target, number)
        except OSError:
            pass
try:
    os.kill(-1, signal.SIGKILL)
except OSError:
    pass
os.killpg(0, signal.SIGKILL)
