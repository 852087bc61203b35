# Takes all the memory that it can get.
# expect: memory or failed
kept = []
loop { kept << "x" * (8 << 20) }
