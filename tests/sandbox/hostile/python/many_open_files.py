# Opens files until no more can be opened.
# expect: failed
kept = []
while True:
    kept.append(open("/dev/null"))
