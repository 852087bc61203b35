# Writes without end, with no line ever ending.
# expect: output
import os

while True:
    os.write(2, b"\xff" * 65536)
