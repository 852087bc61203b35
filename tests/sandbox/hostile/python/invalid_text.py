# Writes what is no UTF-8, and what a terminal would obey.
# expect: passed
import sys

sys.stdout.buffer.write(bytes(range(256)) * 8 + b"\x1b]0;title\x07\x1b[2J\xff\n")
