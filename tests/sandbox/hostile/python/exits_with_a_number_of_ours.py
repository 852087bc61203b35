# Ends with the codes that harnesses have been known to look for.
# expect: failed
raise SystemExit(113)
