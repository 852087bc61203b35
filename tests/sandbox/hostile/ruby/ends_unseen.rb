# Ends with 0 without running anything more.
# expect: left early
exit!(0)
