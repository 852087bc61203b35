# Writes without end.
# expect: output
while (1) { print "x" x 1000; }
