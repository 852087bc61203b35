# Writes one huge file, and one with a huge hole.
# expect: failed
with open("hole", "wb") as file:
    file.seek(1 << 40)
    file.write(b"x")
