# Takes all the memory that it can get, piece by piece.
# expect: memory or failed
kept = []
while True:
    kept.append(bytearray(b"x" * (1 << 20)))
