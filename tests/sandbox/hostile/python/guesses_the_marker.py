# Prints what might be the mark of success.
# expect: left early
import os

print("MARKER", "passed", "OK", "RAN_TO_END", "0" * 32, "\n" * 3)
for name in ("CODECHOIR_CONTROL", "MARKER"):
    print(os.environ.get(name))
os._exit(0)
