# Reads what the host has.
# expect: passed
for my $path (split(/:/, $ENV{HOSTILE_PATHS}), "/etc/shadow", "/proc/1/environ") {
    if (open(my $file, "<", $path)) { print "BREACH: ", <$file>; }
}
