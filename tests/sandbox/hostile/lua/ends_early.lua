-- Ends with 0 before its tests.
-- expect: left early
os.exit(0, false)
