# Ends with 0 before its tests.
# expect: left early
raise SystemExit(0)
