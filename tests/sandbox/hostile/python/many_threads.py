# Starts threads until no more can be started.
# expect: failed
import threading
import time

while True:
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
