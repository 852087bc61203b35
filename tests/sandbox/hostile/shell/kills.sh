# Kills all there is, then itself.
# expect: killed
kill -9 1 2> /dev/null
kill -9 -1 2> /dev/null
kill -9 $$
