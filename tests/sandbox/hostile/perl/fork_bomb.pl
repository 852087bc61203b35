# Forks for ever.
# expect: time
while (1) { fork(); }
