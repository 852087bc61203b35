# Closes all its streams and ends well, so that no success can be told.
# expect: left early
import os

os.closerange(0, 64)
os._exit(0)
