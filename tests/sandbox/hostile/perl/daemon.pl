# Becomes a daemon.
# expect: passed
use POSIX qw(setsid);
if (fork() == 0) { setsid(); close(STDIN); close(STDOUT); close(STDERR); fork() and exit; sleep 3600; }
