# Writes without end from a child.
# expect: output
yes | cat
