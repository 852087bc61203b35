# Overflows the interpreter's own stack.
# expect: killed or failed
import sys

sys.setrecursionlimit(10**9)


def below(depth):
    return [below(depth + 1) for _ in range(1)]


below(0)
