# Ends as the keeper's own process does when its host is gone.
# expect: failed
import os

os._exit(41)
