# Forks for ever, whatever fails.
# expect: time
import os

while True:
    try:
        os.fork()
    except OSError:
        pass
