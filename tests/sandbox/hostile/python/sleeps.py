# Uses no CPU and never ends.
# expect: time
import time

time.sleep(3600)
