# Waits for input that never comes.
# expect: failed
import sys

assert sys.stdin.read() == ""
input()
