# Leaves a daemon behind.
# expect: passed
pid = fork do
  Process.setsid
  fork { sleep 3600 }
end
Process.wait(pid)
