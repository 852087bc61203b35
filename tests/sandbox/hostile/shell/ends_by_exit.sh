# Ends with 0 before its tests.
# expect: left early
exit 0
