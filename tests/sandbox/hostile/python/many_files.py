# Makes more files than any program needs.
# expect: failed
import os

for number in range(1_000_000):
    os.close(os.open(f"/tmp/{number}", os.O_CREAT | os.O_WRONLY))
