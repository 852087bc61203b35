# Hides memory in files of the private /tmp and of /dev/shm.
# expect: memory or failed
block = b"x" * (4 << 20)
for number in range(400):
    for folder in ("/tmp", "/dev/shm"):
        try:
            with open(f"{folder}/{number}", "wb") as file:
                file.write(block)
        except OSError as error:
            last = error
raise last
