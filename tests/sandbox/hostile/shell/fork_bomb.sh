# The shell's classic, which never waits.
# expect: time or failed or killed
# limits: cpu
bomb() { bomb | bomb & }
bomb
while :; do :; done
