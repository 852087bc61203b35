# Overwrites its own code by /proc/self/mem, which harms nobody else.
# expect: passed
import ctypes

text = ctypes.create_string_buffer(b"before")
with open("/proc/self/mem", "r+b", buffering=0) as memory:
    memory.seek(ctypes.addressof(text))
    memory.write(b"after!")
assert text.value == b"after!"
