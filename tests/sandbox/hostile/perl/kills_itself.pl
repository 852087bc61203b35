# Ends by a signal.
# expect: killed
kill 9, $$;
