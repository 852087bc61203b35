# Ignores SIGTERM, SIGXCPU and all others that can be ignored, and spins.
# expect: time or killed
# limits: cpu
import signal

for number in signal.valid_signals():
    try:
        signal.signal(number, signal.SIG_IGN)
    except OSError:
        pass
while True:
    pass
