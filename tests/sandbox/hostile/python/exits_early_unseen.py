# Ends with 0 without any handler being run.
# expect: left early
import os

os._exit(0)
