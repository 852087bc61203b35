# Never ends.
# expect: time or killed
# limits: cpu
while True:
    pass
